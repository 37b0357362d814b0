/* How many bytes of a conn may be in flight, by the peer's own counts (MARK and SEEN, docs/wire.md
 * 4). */
#ifndef SMT_CORE_PACER_H
#define SMT_CORE_PACER_H

#include "base/defs.h"

struct smt_conn;

enum { SMT_PACER_MARKS = 16 };

/* Packets lost of those sent lately; older ones count less. */
struct smt_loss {
    uint32_t n_sent, n_lost;
    uint32_t n_asked;   /* asked for again since the last look */
    uint32_t n_missing; /* of those missing, how many have counted as lost */
};

struct smt_pacer_mark {
    uint32_t packets;
    uint64_t bytes;
    uint64_t at;
};

/* What is known of bytes on their way. From the engine's pool; a conn at rest has none. */
struct smt_pacer_flight {
    uint64_t acked_bytes;   /* of sent_bytes, those before a mark that has been answered */
    uint64_t marked_bytes;  /* sent_bytes at the last mark */
    uint64_t seen_at, marked_at; /* the last SEEN used, and when its mark left */
    uint64_t mark_at;       /* when the last mark left */
    uint32_t oldest_seq;    /* marks in flight: [oldest, next) */
    uint32_t seen_bytes, seen_packets; /* at the last SEEN used */
    uint32_t acked_packets; /* sent_packets at the mark of the last SEEN used */
    uint32_t late_seq, late; /* by the peer's word, ns: late.c */
    uint8_t n_silent;       /* marks repeated without answer */
    struct smt_pacer_mark marks[SMT_PACER_MARKS]; /* by seq modulo their number */
};

/* The same seen from the other end: what the peer's MARKs say of the way to us. */
struct smt_pacer_in {
    uint64_t at;            /* when the last MARK came; 0 = none */
    uint32_t packets;       /* the peer's total in it */
    uint32_t got_ce;        /* ours when it came */
    uint32_t rate_bytes;    /* and our bytes at `rate_at`, where a sample of the rate begins */
    uint64_t rate_at;
    struct smt_loss lost;
};

struct smt_pacer {
    uint64_t sent_bytes;    /* DATA packet bytes sent, ever */
    uint32_t sent_packets;
    uint32_t next_seq;
    uint32_t max_window;    /* what the peer can buffer */
    uint32_t max_step;      /* bytes between two MARKs when all of it may be used */
    uint32_t seen_ce;
    uint32_t got_packets, got_bytes, got_ce; /* received, for SEEN */
    uint8_t low_prio;       /* lowest of data since the last mark */
    uint8_t mark_prio;      /* at which that went */
    uint64_t rtt_last;      /* 0 = not measured */
    uint64_t rtt_peak;      /* largest of late, forgotten by an eighth a sample */
    struct smt_loss lost;
    struct smt_pacer_in in;
    struct smt_pacer_flight *flight;
};

void smt_pacer_init(struct smt_pacer *p);

/* The peer can buffer rx_window bytes. */
void smt_pacer_start(struct smt_pacer *p, uint32_t rx_window);

/* May another packet of `len` bytes leave, when `window` may be in flight? */
static inline bool smt_pacer_allows(const struct smt_pacer *p, uint64_t window, uint32_t len)
{
    if (p->flight == NULL)
        return true;
    uint64_t out = p->sent_bytes - p->flight->acked_bytes;
    return out == 0 || out + len <= window;
}

/* Bytes that may be in flight to the peer now. */
uint64_t smt_pacer_window_narrow(const struct smt_conn *c);

/* The peer's totals of packets sent, with his MARK: what of it has not come, what the path does. */
void smt_pacer_marked(struct smt_conn *c, uint64_t now, uint32_t packets);

/* The part of smt_pacer_sent (conn.h) for packets with which a MARK may be due. */
void smt_pacer_sent_slow(struct smt_conn *c, uint64_t now, uint32_t len, uint8_t prio);

/* SEEN came. True when room was made. */
bool smt_pacer_seen(struct smt_conn *c, uint64_t now, uint32_t seq, uint32_t packets,
                    uint32_t bytes, uint32_t ce);

/* When a lost MARK or SEEN must be made up for; SMT_NEVER when nothing waits for one. */
uint64_t smt_pacer_deadline(const struct smt_conn *c);
void smt_pacer_tick(struct smt_conn *c, uint64_t now);

/* Nothing is in flight and nothing will be soon: gives the memory back. */
void smt_pacer_rest(struct smt_conn *c);

#endif
