/* QUERY_HCA_CAP: what the device says of itself, by profile. */
#ifndef MLX5_MODEL_CAPS_H
#define MLX5_MODEL_CAPS_H

#include "objects.h"

enum { MM_CAP_AREA = 4096 };

/* The area of this capability type; `current` of what is configured, else of what the part can. */
enum mm_status mm_caps_fill(uint32_t type, bool current, uint8_t *area);

#endif
