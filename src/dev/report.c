/* What this machine has: the rows of the table first, then RDMA devices that no row drives. */
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
