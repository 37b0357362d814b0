/* The steps between a machine and a NIC that seals, tried one by one for smt_info. */
#ifndef SMT_DEV_MLX5_PROBE_H
#define SMT_DEV_MLX5_PROBE_H

#include "base/defs.h"

enum smt_mlx5_probe_result { SMT_PROBE_OK, SMT_PROBE_NO, SMT_PROBE_NOTE };

enum { SMT_MLX5_N_PROBES = 16 };

struct smt_mlx5_probe {
    unsigned number;   /* 1 … 16 */
    enum smt_mlx5_probe_result result;
    char what[40];
    char text[256];    /* what was found; when it is not good, the remedy */
};

/* Probes the device of this name (RDMA device or interface; NULL: the first mlx5 one). Fills up to
 * n; returns how many. Objects are made and destroyed, nothing is sent. */
unsigned smt_mlx5_probe(const char *name, struct smt_mlx5_probe *out, unsigned n);

#endif
