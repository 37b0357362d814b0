/* What this machine has: what the rows of the table say of themselves, then every RDMA port, which
 * the row `ud` drives. */
#include "dev/dev_impl.h"
#include "dev/verbs_probe.h"

int smt_dev_report(struct smt_dev_report *out, unsigned n)
{
    unsigned got = 0;
    for (unsigned i = 0; i < smt_dev_n_list; i++) {
        const struct smt_dev_ops *row = smt_dev_list[i];
        if (row->report != NULL)
            got += (unsigned)row->report(out + got, n - got);
    }
    return (int)(got + (unsigned)smt_verbs_report(out + got, n - got));
}
