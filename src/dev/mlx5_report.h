/* What smt_info tells of mlx5 devices. */
#ifndef SMT_DEV_MLX5_REPORT_H
#define SMT_DEV_MLX5_REPORT_H

#include "dev/dev.h"

/* As struct smt_dev_ops.report. */
int smt_mlx5_report(struct smt_dev_report *out, unsigned n);

#endif
