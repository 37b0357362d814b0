/* Objects made by DevX commands: transport domains, TISes and keys. */
#ifndef MLX5_MODEL_OBJECTS_H
#define MLX5_MODEL_OBJECTS_H

#include "tls.h"

/* Status of a firmware command. */
enum mm_status {
    MM_OK = 0,
    MM_BAD_OP = 0x2,
    MM_BAD_PARAM = 0x3,
    MM_BAD_RESOURCE = 0x5,
    MM_BUSY = 0x6,
    MM_LIMIT = 0x8,
    MM_NO_RESOURCES = 0xf,
    MM_BAD_INPUT_LEN = 0x50,
    MM_BAD_OUTPUT_LEN = 0x51,
};

/* Each makes an object with a number nobody could guess, or answers why not. */
enum mm_status mm_td_new(uint32_t *td);
enum mm_status mm_td_free(uint32_t td);
enum mm_status mm_tis_new(uint32_t td, uint32_t pdn, bool is_tls, uint32_t *tisn);
enum mm_status mm_tis_free(uint32_t tisn);
enum mm_status mm_dek_new(uint32_t pdn, const uint8_t *key, uint32_t key_len, uint32_t *id);
enum mm_status mm_dek_free(uint32_t id);

/* tls.c: a TIS goes. */
void mm_tls_forget(struct mm_tis *t);

#endif
