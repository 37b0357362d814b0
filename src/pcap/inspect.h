/* Looks at the packets of one profile one after the other: what each is, which rule it breaks, and
 * what messages they make. smt_pcap prints it; the interop tests count on it. */
#ifndef SMT_PCAP_INSPECT_H
#define SMT_PCAP_INSPECT_H

#include "pcap/capture.h"
#include "wire/homa.h"

enum { SMT_INSPECT_KEY_LEN = 16, SMT_INSPECT_SALT_LEN = 4, SMT_INSPECT_SHA_LEN = 32 };

/* Keys of one direction of smt1. */
struct smt_inspect_key {
    uint8_t key[SMT_INSPECT_KEY_LEN], salt[SMT_INSPECT_SALT_LEN];
    bool is_set;
};

struct smt_inspect_config {
    const struct smt_homa_format *format;  /* NULL: smt2, whose packets are listed only */
    uint32_t mtu;                          /* of both ends, for smt1 */
    uint16_t port;                         /* smt2 in UDP: only to or from this port; 0 = any */
    struct smt_inspect_key client, server; /* by who sends */
};

/* A message as far as it was seen. */
struct smt_inspect_message {
    struct smt_addr from, to; /* with ports */
    uint64_t id;              /* the sender's: even: a request */
    uint32_t len, got;        /* bytes in all, bytes seen (smt1 with keys: opened) */
    uint32_t n_packets, n_again, n_records;
    uint64_t first_packet;
    bool is_complete; /* all of it was seen; smt1: and opened */
    bool is_opaque;   /* smt1 without its key */
    uint8_t *data;    /* len bytes when complete, until the inspection ends */
    uint8_t sha[SMT_INSPECT_SHA_LEN];
    const struct smt_inspect_message *next; /* in order of first packets */
};

/* What there is to say of one packet. */
struct smt_inspect_line {
    bool is_ours; /* of the profile; otherwise `text` names what it is */
    char text[320];
    char fault[256]; /* empty: breaks no rule */
};

struct smt_inspect;

/* *out is given (smt_inspect_free). SMT_ENOMEM, SMT_EINVAL (an MTU that smt1 cannot have). */
SMT_MUST_CHECK int smt_inspect_new(const struct smt_inspect_config *config,
                                   struct smt_inspect **out);
void smt_inspect_free(struct smt_inspect *in);

/* 0, or SMT_ENOMEM when the messages take more than 1 GiB. */
SMT_MUST_CHECK int smt_inspect_packet(struct smt_inspect *in, const struct smt_cap_packet *packet,
                                      struct smt_inspect_line *out);

/* The first message, NULL if there is none. */
const struct smt_inspect_message *smt_inspect_messages(const struct smt_inspect *in);

#endif
