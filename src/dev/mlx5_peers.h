/* Machines that an `mlx5` device sends to: the headers in front of their packets, and how they are
 * found. */
#ifndef SMT_DEV_MLX5_PEERS_H
#define SMT_DEV_MLX5_PEERS_H

#include "dev/mlx5_frame.h"
#include "dev/mlx5_port.h"

struct smt_mlx5_peers;

/* One machine. Lives as long as the table. */
struct smt_mlx5_peer {
    struct smt_mlx5_head packet; /* UDP without its destination port */
    struct smt_mlx5_head burst;  /* len 0: there are none */
    uint32_t mtu;                /* bytes of a packet; 0: cannot be reached (now) */
    struct smt_addr addr;          /* port 0 */
    uint64_t asked_at, kicked_at;
    uint32_t generation;           /* of the kernel's tables when it was looked up */
    bool is_asked_for;             /* the kernel looks for its hardware address */
    const char *why;               /* it cannot be reached; a literal */
};

/* `port` and `by` lent. By UDP, config->port (0: any) is taken from the kernel and kept. Writes
 * error_text. */
SMT_MUST_CHECK int smt_mlx5_peers_new(const struct smt_dev_config *config,
                                      const struct smt_mlx5_port *port,
                                      const struct smt_mlx5_carrier *by,
                                      struct smt_mlx5_peers **out);
void smt_mlx5_peers_free(struct smt_mlx5_peers *p);

/* Our UDP port. */
uint16_t smt_mlx5_peers_port(const struct smt_mlx5_peers *p);

/* Readable when the kernel's tables have changed: call changed. It says whether addresses may have
 * changed, too. */
int smt_mlx5_peers_fd(const struct smt_mlx5_peers *p);
bool smt_mlx5_peers_changed(struct smt_mlx5_peers *p);

/* The machine of an address, looked up when it is not known or may have changed. NULL: no memory.
 * `now` may be coarse. */
struct smt_mlx5_peer *smt_mlx5_peers_get(struct smt_mlx5_peers *p, const struct smt_addr *to,
                                         uint64_t now);

#endif
