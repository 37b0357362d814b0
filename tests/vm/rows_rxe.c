/* Rows of the conformance suite for the guest: the sender on rxe1, the receivers on rxe0, the veth
 * between them. Run by name with an address, so that it stays in the guest's own network. */
#include "conform/conform.h"

#include <stdio.h>

static int end_open(const char *spec, const char *host, struct smt_dev **dev, struct smt_addr *addr)
{
    char text[512];
    struct smt_dev_config config = {
        .spec = spec, .bind_host = host, .error_text = text, .error_text_len = sizeof(text)};
    int r = smt_dev_open(&config, dev);
    if (r < 0) {
        fprintf(stderr, "%s: %s\n", spec, text);
        return r;
    }
    r = smt_dev_resolve(host, (*dev)->ops->port(*dev), addr, 1);
    return r < 0 ? r : 0;
}

static int rxe_open(struct conform_set *set, const char *tx_spec)
{
    int r = end_open(tx_spec, "10.9.0.2", &set->tx, &set->back);
    for (unsigned i = 0; i < set->n_rx && r == 0; i++)
        r = end_open(set->row->spec, set->row->bind_host, &set->rx[i], &set->to[i]);
    return r;
}

static int one_open(struct conform_set *set)
{
    return rxe_open(set, "ud:rxe1");
}

static int many_open(struct conform_set *set)
{
    return rxe_open(set, "ud:rxe1,qps=4");
}

#define RXE                                                                                        \
    .n_rx = 4, .is_verbs = true, .is_by_name = true, .address = "10.9.0.1", .bind_host = "10.9.0.1"

const struct conform_row conform_rows[] = {
    {.name = "ud-rxe", RXE, .spec = "ud:rxe0", .open = one_open},
    {.name = "ud-rxe-qps", RXE, .spec = "ud:rxe0,qps=2", .open = many_open},
};

const unsigned conform_n_rows = SMT_ARRAY_LEN(conform_rows);
