/* Memory that two processes share: made by one, read by the other.
 *
 * A memfd under seals: SHRINK, so that no access of ours ever meets the end of a file that became
 * shorter (SIGBUS); FUTURE_WRITE, so that who gets the descriptor can map it to read only, and can
 * punch no holes into it; SEAL, so that it stays so. What a peer sends is taken only with the same
 * seals, which memfds alone have, of plain pages and of the one length there is. */
#include "dev/shm.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef TMPFS_MAGIC
#define TMPFS_MAGIC 0x01021994
#endif

enum { SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE };

int smt_shm_half_new(uint8_t **half, int *fd)
{
    int m = memfd_create("smt-shm", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (m < 0)
        return SMT_EUNSUPPORTED;
    void *p = MAP_FAILED;
    if (ftruncate(m, SMT_SHM_HALF) == 0)
        p = mmap(NULL, SMT_SHM_HALF, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0);
    if (p == MAP_FAILED) {
        close(m);
        return SMT_ENOMEM;
    }
    if (fcntl(m, F_ADD_SEALS, SEALS) < 0) {
        munmap(p, SMT_SHM_HALF);
        close(m);
        return SMT_EUNSUPPORTED;
    }
    *half = p;
    *fd = m;
    return 0;
}

int smt_shm_half_map(int fd, uint8_t **half)
{
    struct stat st;
    struct statfs fs;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) < 0 ||
        st.st_size != SMT_SHM_HALF || fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
        return SMT_EPROTO;
    void *p = mmap(NULL, SMT_SHM_HALF, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return SMT_ENOMEM;
    *half = p;
    return 0;
}

void smt_shm_half_free(uint8_t *half)
{
    if (half != NULL)
        munmap(half, SMT_SHM_HALF);
}
