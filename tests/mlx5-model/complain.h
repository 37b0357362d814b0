/* Wrong use of the device, told in one line with the field's name. */
#ifndef MLX5_MODEL_COMPLAIN_H
#define MLX5_MODEL_COMPLAIN_H

#include <stdbool.h>

/* Prints "mlx5-model: FIELD: text", notes it in DIR/COMPLAINTS and ends the process, unless the
 * knob abort=0 says to go on: then the answer is false. */
__attribute__((format(printf, 2, 3))) bool mm_complain(const char *field, const char *format, ...);

/* The same for what cannot be gone on from, such as a pattern of plaintext on the wire. */
__attribute__((format(printf, 2, 3), noreturn)) void mm_die(const char *field, const char *format,
                                                            ...);

#endif
