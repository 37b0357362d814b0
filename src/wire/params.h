/* Transport parameters, docs/wire.md 6.2: encode and decode. */
#ifndef SMT_WIRE_PARAMS_H
#define SMT_WIRE_PARAMS_H

#include "base/defs.h"

enum smt_carriage { SMT_CARRIAGE_UDP = 1, SMT_CARRIAGE_RAW = 2, SMT_CARRIAGE_UD = 4 };
/* How a record may leave: in one packet, in slices by the IPv4 id, in slices by the header. */
enum smt_form { SMT_FORM_SINGLE = 1, SMT_FORM_BURST = 2, SMT_FORM_SLICES = 4 };

enum { SMT_PARAMS_MAX_LEN = 256, SMT_PARAMS_MAX_VERSIONS = 8, SMT_PARAMS_MAX_CIPHERS = 8 };

struct smt_params {
    uint64_t session_id;
    uint8_t versions[SMT_PARAMS_MAX_VERSIONS];
    uint8_t n_versions;
    uint8_t carriages;       /* bit mask */
    uint8_t record_forms;    /* bit mask */
    uint8_t ciphers[SMT_PARAMS_MAX_CIPHERS];
    uint8_t n_ciphers;
    uint16_t mtu;            /* largest packet it takes */
    uint32_t open_rpcs;
    uint64_t unfinished_bytes;
    uint32_t max_message;
    uint32_t rx_window;      /* bytes in flight it can buffer */
    uint32_t unsched;
    uint32_t idle_timeout_ms;
};

/* The defaults of the table, with no session id, version or cipher. */
void smt_params_init(struct smt_params *p);

/* Writes the block; its length, or SMT_EINVAL when it does not fit cap. */
SMT_MUST_CHECK int smt_params_encode(const struct smt_params *p, uint8_t *out, size_t cap);

/* Parses a block into *out (defaults for what is missing). SMT_EMALFORMED for a missing required
 * id, a short or repeated one; *out is then untouched. */
SMT_MUST_CHECK int smt_params_decode(const uint8_t *in, size_t len, struct smt_params *out);

#endif
