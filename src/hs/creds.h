/* The inside of credentials, for this layer only. */
#ifndef SMT_HS_CREDS_H
#define SMT_HS_CREDS_H

#include "hs/early_seen.h"
#include "hs/hs.h"
#include "hs/pins.h"
#include "hs/psk.h"
#include "hs/ticket_cache.h"
#include "hs/ticket_keys.h"

enum smt_creds_kind { SMT_CREDS_FILES, SMT_CREDS_PSK, SMT_CREDS_APP };

/* Read-only once made, but for the references and what guards itself. */
struct smt_creds {
    _Atomic unsigned refs;
    enum smt_creds_kind kind;
    SSL_CTX *tls; /* one for both roles; what differs is set on each SSL */
    bool has_cert, has_ca;
    bool client_cert_optional;
    struct smt_pins pins;
    struct smt_psk_list psks;
    int64_t lists_until; /* when the first of the revocation lists must be renewed */
    struct smt_ticket_keys *ticket_keys; /* NULL, as tickets: they do not resume */
    struct smt_ticket_cache *tickets;
    struct smt_early_seen *early_seen; /* NULL: no early data is offered or taken */
    int keylog_fd; /* -1: nobody asked for it */
};

#endif
