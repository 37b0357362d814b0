/* The grant book: which incoming messages are active, that is granted now. It knows keys and peers,
 * nothing of bytes, windows or frames. O(log n) a change. */
#ifndef SMT_CORE_BOOK_H
#define SMT_CORE_BOOK_H

#include "base/heap.h"
#include "base/list.h"

enum { SMT_BOOK_MAX_ACTIVE = 16 };

/* One peer's messages. Zeroed = none. */
struct smt_book_peer {
    struct smt_heap waiting;      /* its messages that are not active */
    struct smt_heap_node node;    /* in the book while some wait */
    uint8_t n_active;
};

/* One message. A zeroed one is in no book. */
struct smt_book_entry {
    struct smt_heap_node node;    /* key: order of this message, tie: its age */
    struct smt_book_peer *peer;
    struct smt_list old;          /* in the book's list by age */
    bool listed, active, silent;
};

struct smt_book {
    struct smt_book_entry *active[SMT_BOOK_MAX_ACTIVE]; /* best first */
    unsigned n_active, max_active;
    uint32_t n_waiting;
    uint64_t age;
    struct smt_heap peers;        /* those with waiting messages */
    struct smt_list old;          /* all entries, oldest first */
};

SMT_MUST_CHECK int smt_book_init(struct smt_book *b, unsigned max_active);
void smt_book_fini(struct smt_book *b);
/* Its heap; no entry of it may be left. */
void smt_book_peer_fini(struct smt_book_peer *p);

/* Adds a message of which `key` bytes are still to be granted. SMT_ENOMEM: not added. */
SMT_MUST_CHECK int smt_book_add(struct smt_book *b, struct smt_book_peer *peer,
                                struct smt_book_entry *x, uint64_t key);
void smt_book_remove(struct smt_book *b, struct smt_book_entry *x);

/* Its key fell (or rose). */
void smt_book_update(struct smt_book *b, struct smt_book_entry *x, uint64_t key);

/* Its sender does not send what it may / sends again: silent ones come after all others. */
void smt_book_set_silent(struct smt_book *b, struct smt_book_entry *x, bool silent);

/* The bytes it was added or updated with. */
static inline uint64_t smt_book_key(const struct smt_book_entry *x)
{
    return x->node.key & (((uint64_t)1 << 40) - 1);
}

#endif
