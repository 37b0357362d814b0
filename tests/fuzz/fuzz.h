/* One fuzz target: decodes `data`, which ends where its allocation ends, and checks what the
 * contract promises of what was accepted. Linked with libFuzzer or with standalone.c. */
#ifndef SMT_TESTS_FUZZ_FUZZ_H
#define SMT_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Unlike assert it stays in a release build. */
#define FUZZ_CHECK(ok)                                                                             \
    do {                                                                                           \
        if (!(ok)) {                                                                               \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #ok);                               \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
