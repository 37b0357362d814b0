/* Whose port it is. Raw sockets know no ports: two that were opened for one protocol both get every
 * packet, and a request would be carried out twice. So an endpoint says what it has by the name of
 * an abstract unix socket, which is gone with its descriptor and belongs to the network namespace
 * as packets do; and reads the names of the others where the kernel lists them. It says first and
 * reads then: of two that come at once, neither misses the other (both may be refused). */
#include "dev/ip_claim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dev/dev_impl.h"

enum {
    NAME_LEN = 96,
    FIRST_AUTO_PORT = 32768,
    N_AUTO_PORTS = 65536 - FIRST_AUTO_PORT,
    MAX_TRIES = 256,
};

static const char ANY[] = "any";

/* True when somebody's claim of this protocol and port overlaps ours. */
static bool is_taken(const char *prefix, const char *own, bool *is_known)
{
    FILE *f = fopen("/proc/net/unix", "re");
    *is_known = f != NULL;
    if (f == NULL)
        return false;
    char line[512];
    bool taken = false;
    while (!taken && fgets(line, sizeof(line), f) != NULL) {
        char *name = strstr(line, prefix);
        if (name == NULL || name == line || name[-1] != '@')
            continue;
        name += strlen(prefix);
        name[strcspn(name, "\n")] = '\0';
        /* Our own is there too: the same name cannot be had twice, so it is no one else's. */
        taken = strcmp(name, own) != 0 && (strcmp(name, ANY) == 0 || strcmp(own, ANY) == 0);
    }
    fclose(f);
    return taken;
}

static int claim(uint8_t protocol, uint16_t port, const struct smt_addr *bound, int *fd)
{
    char own[INET6_ADDRSTRLEN + 12] = "any", prefix[32], name[NAME_LEN];
    if (bound != NULL) {
        char text[INET6_ADDRSTRLEN];
        inet_ntop(AF_INET6, bound->ip, text, sizeof(text));
        snprintf(own, sizeof(own), "%s%%%" PRIu32, text, bound->scope);
    }
    snprintf(prefix, sizeof(prefix), "smt-ip/%u/%u/", protocol, port);
    int len = snprintf(name, sizeof(name), "%s%s", prefix, own);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    assert(len > 0 && (size_t)len < sizeof(name) && (size_t)len < sizeof(sa.sun_path));
    memcpy(sa.sun_path + 1, name, (size_t)len);

    int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return SMT_ESYSTEM;
    socklen_t sa_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    int r = 0;
    if (bind(s, (const struct sockaddr *)&sa, sa_len) < 0)
        r = errno == EADDRINUSE ? SMT_EADDRINUSE : SMT_ESYSTEM;
    bool is_known;
    if (r == 0 && is_taken(prefix, own, &is_known))
        r = SMT_EADDRINUSE;
    if (r < 0) {
        close(s);
        return r;
    }
    *fd = s;
    return 0;
}

#define FAIL(code, ...) smt_dev_fail(config->error_text, config->error_text_len, code, __VA_ARGS__)

int smt_ip_port_take(const struct smt_dev_config *config, uint8_t protocol,
                     const struct smt_addr *bound, uint16_t *port, int *fd)
{
    if (config->port != 0) {
        *port = config->port;
        int r = claim(protocol, *port, bound, fd);
        if (r == SMT_EADDRINUSE)
            return FAIL(r,
                        "port %u of IP protocol %u is in use by another endpoint; take "
                        "another, or 0 for any",
                        *port, protocol);
        return r < 0 ? FAIL(r, "port %u: %s", *port, strerror(errno)) : 0;
    }
    for (unsigned i = 0; i < MAX_TRIES; i++) {
        uint16_t draw;
        if (getrandom(&draw, sizeof(draw), 0) != sizeof(draw))
            return FAIL(SMT_ESYSTEM, "no random numbers: %s", strerror(errno));
        *port = (uint16_t)(FIRST_AUTO_PORT + draw % N_AUTO_PORTS);
        int r = claim(protocol, *port, bound, fd);
        if (r != SMT_EADDRINUSE)
            return r < 0 ? FAIL(r, "port %u: %s", *port, strerror(errno)) : 0;
    }
    return FAIL(SMT_EADDRINUSE, "no free port of IP protocol %u found", protocol);
}

bool smt_ip_kernel_speaks_homa(void)
{
    FILE *f = fopen("/proc/net/protocols", "re");
    if (f == NULL)
        return false;
    char line[256];
    bool found = false;
    while (!found && fgets(line, sizeof(line), f) != NULL)
        found = strncmp(line, "HOMA", 4) == 0;
    fclose(f);
    return found;
}
