/* Each test in a process of its own, because the model reads its environment once. */
#ifndef MLX5_MODEL_HARNESS_H
#define MLX5_MODEL_HARNESS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "drive.h"

struct harness_test {
    const char *name, *knobs; /* "full,…"; dir= and quiet=1 are added */
    void (*run)(void);
    int dies; /* of this signal, 0 = it ends well */
};

/* Runs them all; the exit code of the program. */
int harness_run(const struct harness_test *tests, size_t n);

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);                     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The directory of the wire of this test. */
extern char harness_dir[64];

/* Whether since the last call somebody complained of exactly this field; "" = of nothing. */
bool harness_complained(const char *field);

/* A line into the control FIFO of a device of this process. */
void harness_control(unsigned device, const char *line);

/* A counter of the model, as written now. */
uint64_t harness_stat(const char *name);

/* Seals or opens one record of TLS 1.2 (version 2) or 1.3 (3) in place by OpenSSL, written from the
 * RFCs; the tag is the last 16 bytes. Opening says whether the tag is right. */
void harness_seal(uint32_t version, const uint8_t *key, uint32_t key_len, const uint8_t *iv,
                  uint64_t number, uint8_t *record, uint32_t len);
bool harness_open(uint32_t version, const uint8_t *key, uint32_t key_len, const uint8_t *iv,
                  uint64_t number, uint8_t *record, uint32_t len);

uint32_t harness_hex(const char *text, uint8_t *out);

#endif
