/* What the attackers of this suite have in common. They play against one engine over hand.h:
 * whoever holds keys seals with the hand's, whoever has none makes packets up. A *picture* is all
 * that an engine knows of its session and RPCs; two of them show that something changed nothing. */
#ifndef SMT_TESTS_ATTACK_H
#define SMT_TESTS_ATTACK_H

#include "core/state.h"
#include "hand.h"

/* Index of hand's contexts. */
enum attack_key { ATTACK_MINE_DATA, ATTACK_MINE_CTRL, ATTACK_THEIRS_DATA, ATTACK_THEIRS_CTRL };

struct attack_pkt {
    uint8_t bytes[HAND_MTU];
    size_t len;
};

/* The session as an attacker on the path finds it: calls of both sides under way. The hand is the
 * peer; the engine has a request half sent (id `half`, 100,000 bytes), an answered one that was not
 * acknowledged (`answered`), one it works on (`serving`), and a message of the peer half received
 * (`partial`). */
struct attack_scene {
    struct hand *h;
    uint64_t half, answered, serving, partial;
    struct smt_rpc *serving_rpc;
};

struct attack_scene attack_scene_new(void);
void attack_scene_free(struct attack_scene *s);

/* A CTRL packet of the hand to the engine, sealed with any of its keys. */
void attack_ctrl(struct hand *h, enum attack_key key, uint64_t session_id, uint8_t epoch,
                 uint64_t record_no, const struct smt_frame *frames, unsigned n,
                 struct attack_pkt *out);

/* A DATA packet of the peer himself: any header before any plaintext. */
void attack_data(struct hand *h, const struct smt_hdr *hdr, const uint8_t *plain, size_t len,
                 struct attack_pkt *out);

enum { ATTACK_MAX_RPCS = 16 };

struct attack_picture {
    struct smt_conn conn;
    struct smt_rpc rpcs[ATTACK_MAX_RPCS];
    unsigned n_rpcs, n_pkts, n_events;
    uint64_t held;
};

/* Takes one; counts of failed opens, cached keys and packets that were merely counted are left
 * out. */
void attack_picture_take(const struct hand *h, struct attack_picture *out);

/* Fails the test when they differ, and says in what. */
void attack_picture_same(const struct attack_picture *a, const struct attack_picture *b,
                         const char *after);
bool attack_picture_differs(const struct attack_picture *a, const struct attack_picture *b);

/* Gives bytes to the engine: nothing but counters may change, nothing may leave but up to
 * `answers` stateless packets, no longer than what came. */
void attack_in_vain(struct hand *h, const uint8_t *bytes, size_t len, unsigned answers,
                    const char *what);

#endif
