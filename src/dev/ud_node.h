/* The file of an RDMA device in /dev/infiniband: for devices whose driver cannot take them from a
 * process and says nothing either when they are removed (Soft-RoCE), it is all that tells. */
#ifndef SMT_DEV_UD_NODE_H
#define SMT_DEV_UD_NODE_H

#include "base/defs.h"

/* A descriptor that polls readable when something happens to the file `path`, of which `fd` is
 * open; -1 when they are not the same or the system cannot watch it. */
int smt_ud_node_watch(const char *path, int fd);

/* What happened: is `path` no longer the file that `fd` has open? Ends the readability of `watch`.
 */
bool smt_ud_node_is_gone(int watch, const char *path, int fd);

#endif
