/* What the two sides of smt_lat and smt_bw tell each other, as calls inside the secure session, so
 * that a server needs no parameters but a port and credentials. */
#ifndef SMT_TOOLS_PROTO_H
#define SMT_TOOLS_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROTO_VERSION = 1,
    PROTO_REQ_LEN = 128,  /* a request of another length is never control */
    PROTO_RESP_LEN = 512,
    PROTO_MAX_PORTS = 64,
};

enum proto_op {
    PROTO_HELLO = 1, /* once per session, first */
    PROTO_START,     /* what follows are test messages of this kind */
    PROTO_STOP,      /* they have ended: counters please */
    PROTO_BYE,       /* the client is going */
};

enum proto_flags {
    PROTO_ONE_WAY = 1,
    PROTO_VERIFY = 2,
    PROTO_EVENTS = 4,  /* sleep between messages instead of polling */
    PROTO_PRIMARY = 8, /* the client's first session: when it ends, the client has gone */
};

struct proto_req {
    uint32_t version;
    enum proto_op op;
    uint32_t flags;
    char tool[16];
    uint64_t size, resp_size;
    uint32_t depth, threads, sessions;
    uint64_t iterations, duration_ns;
    uint64_t seed; /* of the contents, with PROTO_VERIFY */
};

enum proto_status {
    PROTO_OK = 0,
    PROTO_REFUSED, /* text says why */
};

struct proto_resp {
    uint32_t version;
    enum proto_status status;
    uint64_t received, bytes, wrong; /* STOP: test messages since START; with wrong contents */
    uint16_t ports[PROTO_MAX_PORTS]; /* HELLO: one per server thread */
    unsigned n_ports;
    char tool_version[16];
    char text[128];
    uint64_t cpu_ns; /* START, STOP: CPU time the server has used in all; 0: it does not tell */
};

void proto_put_req(const struct proto_req *req, uint8_t out[PROTO_REQ_LEN]);
void proto_put_resp(const struct proto_resp *resp, uint8_t out[PROTO_RESP_LEN]);

/* 0, or -1 when it is not control (length, magic) or holds impossible values. A request of another
 * version is read as far as `version` only. */
int proto_get_req(const void *data, size_t len, struct proto_req *req);
int proto_get_resp(const void *data, size_t len, struct proto_resp *resp);

/* Cheap look: may this be control at all? */
bool proto_is_req(const void *data, size_t len);

/* The fixed content of every test response. */
extern const uint64_t proto_resp_seed;

#endif
