/* The mlx5 devices of this machine for smt_info: one line each, and whether the NIC seals. What it
 * says of sealing is what opening goes by, so the list promises nothing that opening refuses. */
#include "dev/mlx5_report.h"

#include <arpa/inet.h>
#include <errno.h>
#include <infiniband/mlx5dv.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "dev/dev_impl.h"
#include "dev/mlx5_port.h"

static void addresses_put(const struct smt_mlx5_port *p, struct smt_dev_report *r)
{
    size_t len = 0;
    for (uint32_t i = 0; i < p->n_addrs && len + INET6_ADDRSTRLEN + 8 < sizeof(r->addresses); i++) {
        char text[INET6_ADDRSTRLEN + 8];
        smt_dev_addr_text(&p->addrs[i], text, sizeof(text));
        char *colon = strrchr(text, ':');
        if (colon != NULL)
            *colon = '\0';
        len += (size_t)snprintf(r->addresses + len, sizeof(r->addresses) - len, "%s%s",
                                i > 0 ? ", " : "", text);
    }
}

static void device_report(const char *name, struct smt_dev_report *r)
{
    struct smt_mlx5_port *p = smt_mem_alloc(sizeof(*p));
    char spec[80];
    *r = (struct smt_dev_report){.usable = false};
    snprintf(spec, sizeof(spec), "mlx5:%.60s", name);
    snprintf(r->name, sizeof(r->name), "%.63s", spec);
    snprintf(r->text, sizeof(r->text), "raw packets of a ConnectX");
    if (p == NULL)
        return;
    const struct smt_dev_config config = {
        .spec = spec, .error_text = r->reason, .error_text_len = sizeof(r->reason)};
    if (smt_mlx5_port_open(&config, p) == 0) {
        r->usable = true;
        const char *why = smt_mlx5_no_seal(p);
        snprintf(r->text, sizeof(r->text), "ConnectX, firmware %.32s, %s, MTU %u",
                 p->attr.orig_attr.fw_ver, p->link.name, p->link.mtu);
        if (why != NULL)
            snprintf(r->offload, sizeof(r->offload), "none: %.240s", why);
        else
            snprintf(r->offload, sizeof(r->offload), "AES-GCM%s%s by the NIC, %u keys at most",
                     p->caps.seals_128 ? " 128" : "", p->caps.seals_256 ? " 256" : "",
                     1u << (p->caps.log_max_dek - 1));
        addresses_put(p, r);
        smt_mlx5_port_close(p);
    }
    smt_mem_free(p);
}

int smt_mlx5_report(struct smt_dev_report *out, unsigned n)
{
    int n_devices = 0;
    struct ibv_device **list = ibv_get_device_list(&n_devices);
    unsigned got = 0;
    for (int i = 0; list != NULL && i < n_devices && got < n; i++) {
        if (mlx5dv_is_supported(list[i]))
            device_report(ibv_get_device_name(list[i]), &out[got++]);
    }
    if (list != NULL)
        ibv_free_device_list(list);
    return (int)got;
}
