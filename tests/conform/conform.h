/* The devices that the conformance suite runs over: a new device is one more row in rows.c. */
#ifndef SMT_TESTS_CONFORM_CONFORM_H
#define SMT_TESTS_CONFORM_CONFORM_H

#include "dev/dev.h"

enum { CONFORM_MAX_RX = 4 };

/* A sender and its receivers. rx[i] is reached from tx at to[i]; tx from any of them at back. */
struct conform_set {
    const struct conform_row *row;
    struct smt_dev *tx, *rx[CONFORM_MAX_RX];
    struct smt_addr to[CONFORM_MAX_RX], back;
    unsigned n_rx;
};

struct conform_row {
    const char *name;
    unsigned n_rx;       /* receivers it can have, at most CONFORM_MAX_RX */
    bool is_socket;      /* carried by the kernel's UDP: other sockets can send to it */
    const char *address; /* is_socket: where it is reached */
    const char *spec, *bind_host, *tap;
    int (*open)(struct conform_set *set); /* NULL: smt_dev_open with the words above */
};

extern const struct conform_row conform_rows[];
extern const unsigned conform_n_rows;

/* Opens a set of the row; the caller closes by conform_close. 0 or what opening said. */
int conform_open(const struct conform_row *row, struct conform_set *set);

/* Devices that are NULL are skipped. */
void conform_close(struct conform_set *set);

/* Configuration of one device of the row on `port`, for tests that open themselves. */
struct smt_dev_config conform_config(const struct conform_row *row, uint16_t port);

/* A network of our own with nothing but loopback, if the system lets us. */
bool conform_private_net(void);

/* MTU of loopback in the private network; false when it cannot be set. */
bool conform_set_lo_mtu(int mtu);

#endif
