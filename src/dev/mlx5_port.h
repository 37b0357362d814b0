/* The port that an `mlx5` device lives on: found, opened, judged. Makes system calls; belongs to
 * opening and to asynchronous events, not to the data path. */
#ifndef SMT_DEV_MLX5_PORT_H
#define SMT_DEV_MLX5_PORT_H

#include <infiniband/verbs.h>

#include "dev/dev.h"
#include "dev/mlx5_cmd.h"
#include "dev/route.h"

enum { SMT_MLX5_MAX_PORTS = 16, SMT_MLX5_MAX_ADDRS = 16 };

/* Who seals: the NIC from a length on where it can, always where it can, or never. */
enum smt_mlx5_crypto { SMT_MLX5_CRYPTO_AUTO, SMT_MLX5_CRYPTO_NIC, SMT_MLX5_CRYPTO_CPU };

struct smt_mlx5_spec {
    char name[64]; /* RDMA device or network interface; "" = choose */
    enum smt_mlx5_crypto crypto;
    bool cuts_bursts; /* what the CPU seals leaves in bursts too */
};

/* "mlx5", "mlx5:eth0", "mlx5:mlx5_0,crypto=cpu,burst=1". 0 or SMT_EINVAL with one line. */
SMT_MUST_CHECK int smt_mlx5_spec_parse(const char *spec, struct smt_mlx5_spec *out, char *text,
                                       size_t text_len);

struct smt_mlx5_port {
    struct ibv_context *ctx;
    struct smt_mlx5_spec spec;
    struct ibv_device_attr_ex attr;
    char devname[64], node[96];
    struct smt_link link;      /* of its network interface */
    bool is_up;
    uint32_t mbps;             /* as verbs tell it */
    bool has_devx;
    struct smt_mlx5_caps caps; /* as they are switched on */
    int caps_error;            /* why they are not known; 0: they are */
    struct smt_addr bind;      /* serves this address alone; port 0 */
    bool has_bind;
    uint32_t n_addrs;
    struct smt_addr addrs[SMT_MLX5_MAX_ADDRS]; /* of the interface that the device serves */
};

/* A name of the interface that a device's port 1 is; false when sysfs has none. */
bool smt_mlx5_ifname(const struct ibv_device *device, char out[16]);

/* Chooses by the spec's name, else the interface that has the bind address, else the first whose
 * link is up. On failure nothing is open and config->error_text has one line. */
SMT_MUST_CHECK int smt_mlx5_port_open(const struct smt_dev_config *config,
                                      struct smt_mlx5_port *out);
void smt_mlx5_port_close(struct smt_mlx5_port *port);

/* Opens one device with firmware commands if it lets us; NULL and errno. */
struct ibv_context *smt_mlx5_context_open(struct ibv_device *device, bool *has_devx);

/* Asks the firmware. 0 or a negative errno. */
SMT_MUST_CHECK int smt_mlx5_caps_query(struct ibv_context *ctx, struct smt_mlx5_caps *out);

/* What the part could do, whatever is switched on: general capabilities only. */
SMT_MUST_CHECK int smt_mlx5_caps_query_max(struct ibv_context *ctx, struct smt_mlx5_caps *out);

/* Why the NIC cannot seal, or NULL when nothing speaks against it. */
const char *smt_mlx5_no_seal(const struct smt_mlx5_port *port);

/* One TSO request carries so many bytes of a raw packet queue; 0 = none. */
uint32_t smt_mlx5_max_tso(const struct ibv_device_attr_ex *attr);

/* Those addresses that it has now: how many, or SMT_ESYSTEM. */
int smt_mlx5_port_addrs(const struct smt_mlx5_port *port, struct smt_addr out[SMT_MLX5_MAX_ADDRS]);

/* State of the port and of its link, after an event. SMT_EDEVICE: it does not answer. */
SMT_MUST_CHECK int smt_mlx5_port_refresh(struct smt_mlx5_port *port);

#endif
