/* TLS extension 0xff53: the transport parameters (docs/wire.md 6.2) and, with a ticket, the token
 * for the address (6.1). */
#ifndef SMT_HS_PARAMS_EXT_H
#define SMT_HS_PARAMS_EXT_H

#include "hs/hs_impl.h"

enum { SMT_PARAMS_EXT_TYPE = 0xff53 };

/* Callbacks of SSL_CTX_add_custom_ext. They do nothing for connections that are not ours. */
int smt_params_ext_add(SSL *ssl, unsigned type, unsigned context, const unsigned char **out,
                       size_t *out_len, X509 *cert, size_t chain_index, int *alert, void *arg);
int smt_params_ext_parse(SSL *ssl, unsigned type, unsigned context, const unsigned char *in,
                         size_t len, X509 *cert, size_t chain_index, int *alert, void *arg);

/* Encodes our parameters into hs->own_block. SMT_EINVAL when they cannot be. */
SMT_MUST_CHECK int smt_params_ext_encode(struct smt_hs *hs);

/* The context of the exporter (docs/wire.md 7), once both blocks are there. */
SMT_MUST_CHECK int smt_params_ext_context(const struct smt_hs *hs, uint8_t out[32]);

/* The same for early data, of which the initiator's block is known and nothing of the answer. */
SMT_MUST_CHECK int smt_params_ext_early_context(const struct smt_hs *hs, uint8_t alg,
                                                uint8_t out[32]);

#endif
