/* The table of devices: what a carrier of packets can do, and how to drive it.
 *
 * A device moves datagrams. It knows addresses, priorities and batches, never packet kinds. One
 * device object belongs to one endpoint and one thread. Rows are const; smt_dev_list names them
 * all; entries a device leaves out are filled from defaults by smt_dev_open, so no caller tests for
 * NULL.
 *
 * Sending: tx_reserve gives the place for one packet of exactly `len` bytes; the caller fills it at
 * once (all of it) and goes on. Packets of one destination and priority leave in order of
 * reservation, all of them at the latest with tx_flush. The device may join packets of one
 * destination into a super-frame and lengthen shorter ones by zero bytes (padding, docs/wire.md 1).
 * Receiving: rx hands out packets borrowed until the next rx call. */
#ifndef SMT_DEV_DEV_H
#define SMT_DEV_DEV_H

#include "base/packet.h"
#include "base/defs.h"

struct smt_dev;
struct smt_dev_report;

enum smt_dev_caps {
    SMT_DEV_CAP_EVENT = 1 << 0,    /* has a file descriptor to sleep on */
    SMT_DEV_CAP_NIC_SEAL = 1 << 1, /* can seal AES-GCM inline */
    SMT_DEV_CAP_BURST = 1 << 2,    /* takes records in slices, by the IPv4 id of packets */
    SMT_DEV_CAP_REGISTER = 1 << 3, /* memory registration makes a difference */
    SMT_DEV_CAP_EXACT = 1 << 4,    /* packets arrive as long as they left: no padding, ever */
    SMT_DEV_CAP_SHARE = 1 << 5,    /* several devices may have one port (smt_dev_config.share) */
    SMT_DEV_CAP_LOCAL = 1 << 6,    /* reaches other endpoints of this host, as UDP sockets do */
    /* What carries smt2 to it; none said counts as UDP. */
    SMT_DEV_CAP_UDP = 1 << 7,
    SMT_DEV_CAP_RAW = 1 << 8,
    SMT_DEV_CAP_UD = 1 << 9,
};

/* What a device tells of itself by smt_dev_tell, in any call; cleared by who has read it. Down and
 * up together: it went down and came back. */
enum smt_dev_news {
    SMT_DEV_NEWS_PORT_DOWN = 1 << 0,
    SMT_DEV_NEWS_PORT_UP = 1 << 1,
    SMT_DEV_NEWS_LOST = 1 << 2, /* for good: rx answers SMT_EDEVICE */
    SMT_DEV_NEWS_REBUILT = 1 << 3, /* its queues had failed and were made anew */
};

/* Adds news to news that nobody has read. */
static inline void smt_dev_news_add(uint8_t *to, uint8_t news)
{
    if (news & SMT_DEV_NEWS_PORT_DOWN)
        *to &= (uint8_t)~SMT_DEV_NEWS_PORT_UP;
    *to |= news;
}

enum { SMT_DEV_RX_BATCH = 256, SMT_DEV_MAX_PACKET = 65507, SMT_DEV_MAX_RUN = 64 };

struct smt_dev_config {
    const char *spec;       /* "udp", "udp:eth0": the row's name and what follows the colon */
    const char *bind_host;  /* NULL = all addresses */
    uint16_t port;          /* 0 = any */
    /* Above 1: so many devices share the port, and packets go to them by session id (steer.h).
     * Opened in the order of their numbers, closed in the reverse one. */
    uint8_t share, number;
    const char *tap;        /* see <smt/smt.h>; NULL = none */
    uint32_t rx_buffer_len; /* wanted kernel receive buffer, 0 = the device's choice */
    /* What carries packets over IP itself takes from the profile; the others do not look. */
    uint8_t ip_protocol;    /* 0 = 254 */
    uint8_t ip_class_shift; /* IPv6 traffic class = priority << this; 0 = 5, as in IPv4 */
    bool no_ecn;            /* packets are not ECN-capable: the profile does not tell of marks */
    bool by_memory;         /* peers on this host by shared memory, if the device has LOCAL */
    bool any_user;          /* then with processes of other users too */
    char *error_text;       /* one clear line on failure */
    size_t error_text_len;
};

struct smt_dev_stats {
    uint64_t tx_packets, tx_bytes, tx_frames, tx_calls, tx_errors, tx_too_big, tx_full;
    uint64_t rx_packets, rx_bytes, rx_frames, rx_calls, rx_dropped;
    uint64_t pad_bytes;
    uint64_t rebuilds; /* all queues made anew after an error */
    /* Of a device that seals: what it sealed; contexts programmed anew, made, taken from others;
     * commands refused; errors of its queue; records that were dropped. */
    uint64_t seal_records, seal_packets, seal_bytes, seal_resyncs, seal_contexts, seal_evicted;
    uint64_t seal_refused, seal_errors, seal_dropped;
};

struct smt_sealer;

struct smt_dev_ops {
    const char *name;
    uint32_t caps;

    /* Opens; *out is given (close). Writes error_text on failure. */
    int (*open)(const struct smt_dev_config *config, struct smt_dev **out);
    void (*close)(struct smt_dev *dev);

    /* Place for one packet of 1 … SMT_DEV_MAX_PACKET bytes, or NULL when the batch is full: then
     * flush, and try again later. `prio` 0…7. The pointer is good until the next call on this
     * device. A packet that the device cannot carry (larger than mtu, no route) is taken, dropped
     * at tx_flush and counted. */
    uint8_t *(*tx_reserve)(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                           uint8_t prio);

    /* Place for one record that leaves in packets of slice_len bytes of it, each behind its header
     * of hdr_len bytes, by raw IP with the number of the packet as identification: hdr_len +
     * record_len bytes. Else as tx_reserve. NULL where there is none. */
    uint8_t *(*tx_burst)(struct smt_dev *dev, const struct smt_addr *to, size_t hdr_len,
                         size_t record_len, size_t slice_len, uint8_t prio);

    /* Places for a run: n packets to one destination, all of `len` bytes but the last one, which
     * has last_len <= len. They leave one behind the other and, if nothing goes wrong on the way,
     * are handed out by one rx behind each other. The first place is returned, each other one
     * stands *stride behind the one before; all are filled at once. NULL: the batch is full, as of
     * tx_reserve. 2 … SMT_DEV_MAX_RUN packets of together at most what tx_run_max said last; a
     * device that said 0 is not asked. */
    uint8_t *(*tx_run)(struct smt_dev *dev, const struct smt_addr *to, unsigned n, size_t len,
                       size_t last_len, uint8_t prio, size_t *stride);

    /* Most bytes of a run towards a peer now; 0: single packets do as well. */
    uint32_t (*tx_run_max)(struct smt_dev *dev, const struct smt_addr *to);

    /* Who seals in place of the CPU (base/seal.h), lent as long as the device; NULL: nobody, and
     * why_no_seal says why in one phrase. */
    const struct smt_sealer *(*sealer)(struct smt_dev *dev);
    const char *(*why_no_seal)(struct smt_dev *dev);

    /* Takes back the last reservation of tx_reserve, tx_burst or tx_run, which was not filled. */
    void (*tx_unreserve)(struct smt_dev *dev);

    /* Hands all reserved packets to the network. 0, or SMT_EAGAIN when the network is full: the
     * rest stays queued in order (call again later); other errors drop packets, counted. */
    int (*tx_flush)(struct smt_dev *dev);

    /* Up to n packets without waiting; the number, or an error when the device has died. */
    int (*rx)(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n);

    /* Up to n more of those behind the packets of the last rx, as far as they are at hand: all that
     * was handed out since then stays lent until the next rx. */
    unsigned (*rx_more)(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n);

    /* Largest packet (bytes of payload) the local link carries towards `to` now. */
    uint32_t (*mtu)(struct smt_dev *dev, const struct smt_addr *to);

    /* Descriptor that, once arm has answered 0, polls readable when rx may return packets or queued
     * sends may go on. The same for the device's life; -1 without SMT_DEV_CAP_EVENT. */
    int (*fd)(struct smt_dev *dev);

    /* Before every sleep: 0, or SMT_EBUSY when there is something to do right now. */
    int (*arm)(struct smt_dev *dev);

    uint16_t (*port)(struct smt_dev *dev);

    /* Speed of the link it sends into, in Mb/s, as it is now; 0: not known, or there is more than
     * one. */
    uint32_t (*link_mbps)(struct smt_dev *dev);

    /* Bytes the receive side can buffer between two rx calls. */
    uint32_t (*rx_capacity)(struct smt_dev *dev);

    int (*mem_register)(struct smt_dev *dev, void *addr, size_t len);
    int (*mem_unregister)(struct smt_dev *dev, void *addr);

    void (*stats)(struct smt_dev *dev, struct smt_dev_stats *out);

    /* For messages, one phrase: why packets to `to` do not leave; with NULL, why the device is lost
     * or was rebuilt last. NULL when it knows nothing of it. Good until the next call on this
     * device. */
    const char *(*why)(struct smt_dev *dev, const struct smt_addr *to);

    /* The same for a peer that can be reached: what could be better, such as the MTU. */
    const char *(*note)(struct smt_dev *dev, const struct smt_addr *to);

    /* Takes one report of the network (ICMP) that packets to `to` are refused: 1, and SMT_EREFUSED
     * (nobody has that port), or with port 0 for the whole host SMT_EVERSION (it does not know the
     * protocol) or SMT_EUNREACHABLE. 0: there is none. Anybody can forge such reports. */
    int (*refused)(struct smt_dev *dev, struct smt_addr *to, int *error);

    /* What this machine has for this row: up to n reports; returns how many. */
    int (*report)(struct smt_dev_report *out, unsigned n);
};

/* First member of every device object. */
struct smt_dev {
    const struct smt_dev_ops *ops; /* complete: defaults filled in */
    struct smt_dev_ops own;        /* where it points; through `ops` only */
    uint8_t news;                  /* enum smt_dev_news */
};

static inline void smt_dev_tell(struct smt_dev *dev, enum smt_dev_news news)
{
    smt_dev_news_add(&dev->news, (uint8_t)news);
}

/* Opens the device that config->spec names, with shared memory around it and in `tap` if asked.
 * SMT_ENODEV when unknown (the text lists the names). */
SMT_MUST_CHECK int smt_dev_open(const struct smt_dev_config *config, struct smt_dev **out);

struct smt_dev_report {
    char name[64], text[256], offload[256], reason[512], addresses[512];
    bool usable;
};

/* What this machine has, for smt_device_list and smt_info: up to n reports; returns how many. */
int smt_dev_report(struct smt_dev_report *out, unsigned n);

/* "host:port", "[v6]:port", "host" → up to n addresses, best first (IPv6 and IPv4). Blocks in the
 * resolver for names. Returns how many, or SMT_ENAME. */
SMT_MUST_CHECK int smt_dev_resolve(const char *host, uint16_t default_port, struct smt_addr *out,
                                   unsigned n);

/* Text of an address, "192.0.2.1:18515" or "[2001:db8::1]:18515". */
void smt_dev_addr_text(const struct smt_addr *addr, char *out, size_t out_len);

/* An in-memory pair for tests and instruction counts: what one sends the other receives, whatever
 * the address, `mtu` bytes largest. Nothing is lost: when `capacity` packets wait to be received,
 * tx_reserve answers NULL and tx_flush SMT_EAGAIN. One thread drives both; each is closed by its
 * own close. No system call but at opening and closing. */
SMT_MUST_CHECK int smt_dev_loop_pair(uint32_t mtu, uint32_t capacity, struct smt_dev **a,
                                     struct smt_dev **b);

/* Wraps a device (which it then owns) by the spec of smt_ctx_config.tap. */
SMT_MUST_CHECK int smt_dev_tap(const char *spec, struct smt_dev *inner, char *error_text,
                               size_t error_text_len, struct smt_dev **out);

#endif
