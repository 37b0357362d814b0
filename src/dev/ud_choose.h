/* Which RDMA port to use, decided on plain tables. */
#ifndef SMT_DEV_UD_CHOOSE_H
#define SMT_DEV_UD_CHOOSE_H

#include "dev/ud_scan.h"

/* What is asked for. All zero and gid -1: anything usable. */
struct smt_ud_want {
    const char *name;     /* RDMA device or network interface; "" or NULL = any */
    int ifindex;          /* of the network interface of this name, 0 = none has it */
    uint8_t port;         /* 0 = any */
    int32_t gid;          /* forced index, -1 = none */
    struct smt_addr bind; /* all zero = none */
    int route_ifindex;    /* interface the default route leaves by, 0 = none */
};

/* What one port is worth for that. */
struct smt_ud_verdict {
    int code;         /* 0 = usable */
    char reason[512]; /* when not: why and what helps */
    int ifindex;      /* interface to live on */
    char ifname[16];
    uint32_t n_gids;
    struct smt_ud_gid gids[SMT_UD_MAX_GIDS];
};

void smt_ud_judge(const struct smt_ud_scan *port, const struct smt_ud_want *want,
                  struct smt_ud_verdict *out);

/* The index of the port to take, or a code with one line in `text`. On success `text` says why this
 * one ("the only usable one"). `verdicts` belong to `ports`, by smt_ud_judge with the same want. */
SMT_MUST_CHECK int smt_ud_choose(const struct smt_ud_scan *ports,
                                 const struct smt_ud_verdict *verdicts, unsigned n,
                                 const struct smt_ud_want *want, char *text, size_t text_len);

/* "ACTIVE" and so on, in words. */
const char *smt_ud_state_text(enum ibv_port_state state);

/* "RoCE v2" and so on. */
const char *smt_ud_gid_type_text(uint32_t type);

#endif
