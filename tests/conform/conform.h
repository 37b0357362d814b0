/* The devices that the conformance suite runs over: a new device is one more row in rows.c. */
#ifndef SMT_TESTS_CONFORM_CONFORM_H
#define SMT_TESTS_CONFORM_CONFORM_H

#include "dev/dev.h"

/* FOREIGN: first byte of a packet that belongs to no stream: nobody counts it. */
enum { CONFORM_MAX_RX = 4, CONFORM_FOREIGN = 0xff };

/* A sender and its receivers. rx[i] is reached from tx at to[i]; tx from any of them at back. */
struct conform_set {
    const struct conform_row *row;
    struct smt_dev *tx, *rx[CONFORM_MAX_RX];
    struct smt_addr to[CONFORM_MAX_RX], back;
    unsigned n_rx;
};

/* Something that goes wrong outside the device. It may cost packets, but afterwards packets pass.
 */
struct conform_fault {
    const char *name;
    void (*inflict)(struct conform_set *set);
    bool (*is_over)(void); /* it waits for its moment; NULL = at once */
};

struct conform_row {
    const char *name;
    unsigned n_rx;       /* receivers it can have, at most CONFORM_MAX_RX */
    bool is_socket;      /* carried by the kernel's UDP: other sockets can send to it */
    bool is_memory;      /* between processes of this host */
    bool is_raw;         /* IP without UDP, in frames of their own */
    unsigned n_calls;    /* most that a hundred small packets may take; 0 = 2, of verbs n_rx */
    bool is_verbs;       /* by queue pairs, which have to find each other first */
    bool drops_first;    /* packets may come before who they are from is known: these are dropped */
    bool has_no_ecn;     /* packets without an IP header */
    bool is_by_name;     /* runs only when named, on a device of the machine */
    const char *address; /* unless `open` is set: where it is reached */
    const char *spec, *bind_host, *tap;
    uint8_t ip_protocol;
    void (*prepare)(void);                /* before a test opens anything; NULL = nothing to do */
    int (*open)(struct conform_set *set); /* NULL: smt_dev_open with the words above */
    const struct conform_fault *faults;
    unsigned n_faults;
    /* The end of the sender's device, in one of n_ways ways. */
    void (*kill)(struct conform_set *set, unsigned way);
    unsigned n_ways;
    /* What goes over the wire: the traffic class of the last packet, and congestion marks on all
     * from now on; NULL = not known. */
    uint8_t (*traffic_class)(void);
    void (*set_ce)(bool is_on);
    /* MTU of the links, and what it is otherwise; NULL: of loopback (conform_set_lo_mtu). */
    bool (*set_mtu)(int mtu);
    int max_mtu;
    /* Packets stay on the way until a receiver arms itself; NULL = cannot be. */
    void (*set_late)(bool is_on);
};

/* The table of this program: rows.c or rows_ud.c. */
extern const struct conform_row conform_rows[];
extern const unsigned conform_n_rows;

/* Of rows_sim.c: hosts of the simulated network. */
int conform_sim_open(struct conform_set *set);

/* Of rows_ip.c: raw IP sockets; to and from them packets get the four bytes of ports that the
 * device reads. */
int conform_ip_open(struct conform_set *set);
/* The same with the sender elsewhere. */
int conform_ip_open_from(struct conform_set *set, const char *spec, const char *host);
extern const struct conform_fault conform_ip_faults[];
enum { CONFORM_IP_FAULTS = 1, CONFORM_IP_HEAD = 20 };

/* Opens a set of the row; the caller closes by conform_close. 0 or what opening said. */
int conform_open(const struct conform_row *row, struct conform_set *set);

/* Devices that are NULL are skipped. */
void conform_close(struct conform_set *set);

/* Configuration of one device of the row on `port`, for tests that open themselves. */
struct smt_dev_config conform_config(const struct conform_row *row, uint16_t port);

/* Of shared_port.c: a group of devices on one port, to which set->tx sends. */
void conform_shared_port(struct conform_set *set);

/* A network of our own with nothing but loopback, if the system lets us. */
bool conform_private_net(void);

/* MTU of loopback in the private network; false when it cannot be set. */
bool conform_set_lo_mtu(int mtu);

#endif
