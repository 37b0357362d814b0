/* How gen_smt2.c makes a packet and writes it down as a section of smt2.txt. */
#ifndef SMT_TESTS_VECTORS_VECTOR_H
#define SMT_TESTS_VECTORS_VECTOR_H

#include "crypto/aead.h"
#include "crypto/schedule.h"
#include "wire/wire.h"

enum { VEC_MAX_PACKET = 20000 };

enum { VEC_I_PORT = 49153, VEC_R_PORT = 18515 };

static const uint64_t vec_initiator_id = 0x01a1a2a3a4a5a6a7;
static const uint64_t vec_responder_id = 0x02b1b2b3b4b5b6b7;

/* A set of keys that packets are sealed with. */
struct keyset {
    const char *name;
    const struct smt_aead *aead;
    struct smt_epoch_keys keys;
    uint8_t epoch;
};

/* What one packet with a record is made from. */
struct packet {
    const char *name;
    const char *note;
    const struct keyset *keys;
    bool from_responder;
    struct smt_hdr hdr;
    struct smt_inner inner; /* DATA, EARLY */
    uint64_t record_no;     /* CTRL */
    const struct smt_frame *frames;
    unsigned n_frames;
    const uint8_t *raw_frames; /* instead of frames: bytes, and the lines that describe them */
    size_t raw_frames_len;
    const char *raw_frames_lines;
    const uint8_t *data;
    size_t data_len;
    size_t pad_len;
    size_t slice_len; /* 0: one packet */
    bool by_header;   /* the index of a slice stands in its header, as over UDP */
};

/* The program ends with `what` on standard error unless ok. */
void vec_check(bool ok, const char *what);

/* The lines of the file: a section's head, and one key with its value. */
void vec_section(const char *name, const char *type, const char *note);
void vec_hex(const char *key, const void *bytes, size_t len);
void vec_num(const char *key, uint64_t v);
void vec_id(const char *key, uint64_t v);
void vec_header(const struct smt_hdr *h);
void vec_inner(const struct smt_inner *in);
void vec_frame(unsigned i, const struct smt_frame *f);

/* A whole section: a packet with a record (or a burst), one without, a message out of packets named
 * before. Ports, epoch, session id, inner hints and lengths are filled in. */
void vec_packet(const struct packet *in);
void vec_plain(const char *name, const char *note, const struct smt_hdr *h, const uint8_t *body,
               size_t body_len, size_t min_len);
void vec_message(const char *name, const char *parts, const uint8_t *data, size_t len);

#endif
