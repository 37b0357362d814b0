/* The engine that seals, and the objects it works with.
 *
 * Each TIS holds parameters and the place of its parser in the byte stream. What a WQE changes of
 * them takes effect with the next fenced WQE of the queue and not before: the latest moment that
 * hardware may choose. */
#ifndef MLX5_MODEL_TLS_H
#define MLX5_MODEL_TLS_H

#include <openssl/evp.h>

#include "model.h"

struct mm_dek {
    uint32_t id, pdn;
    uint8_t key[32];
    uint32_t key_len;
    uint32_t turn;   /* counts keys that this object held */
    bool needs_sync; /* modified, and SYNC_CRYPTO has not followed */
    bool is_lost;    /* by an injected fault */
    struct mm_dek *next;
};

struct mm_params {
    bool is_set;
    uint32_t version; /* 2 = TLS 1.2, 3 = TLS 1.3 */
    uint64_t record_number;
    uint8_t salt[4], iv[8];
    uint32_t dek;
};

enum mm_phase { MM_PHASE_HEADER, MM_PHASE_BODY, MM_PHASE_TAG };

struct mm_parser {
    bool is_set;
    enum mm_phase phase;
    uint8_t header[13], tag[16];
    uint32_t n_header, left, n_tag;
    uint64_t record_number;
};

struct mm_tis {
    uint32_t tisn, pdn, td;
    bool is_tls, is_lost;
    uint32_t sqn; /* the queue that programmed it, 0 = none yet */
    struct mm_params params, next_params;
    struct mm_parser parser;
    bool next_parser, is_used; /* posted but not fenced; packets since the last fence */
    uint32_t next_offset;
    EVP_CIPHER_CTX *cipher;
    uint32_t cipher_dek, cipher_turn;
    struct mm_tis *next;
};

/* objects.c */
struct mm_dek *mm_dek_by_id(uint32_t id);
struct mm_tis *mm_tis_by_number(uint32_t tisn);
void mm_deks_sync(void);

/* A fenced WQE of this queue: what was posted before it is in effect. */
void mm_tls_fence(uint32_t sqn);

/* What the WQEs with parameters do; IBV_WC_SUCCESS or the status of an error CQE. */
enum ibv_wc_status mm_tls_static(uint32_t sqn, uint32_t pdn, uint32_t tisn, const uint8_t *params);
enum ibv_wc_status mm_tls_progress(uint32_t sqn, uint32_t tisn, const uint8_t *params);

/* Runs payload of a WQE through the engine, in place. */
enum ibv_wc_status mm_tls_stream(uint32_t sqn, uint32_t tisn, uint8_t *bytes, uint32_t len);

/* The queue failed or was reset: all that it programmed has to be programmed again. */
void mm_tls_forget_queue(uint32_t sqn);

/* The contexts of a queue (0: any) lose their key or state. False: there is none. */
bool mm_tls_damage(uint32_t sqn, bool key, bool in_silence);

#endif
