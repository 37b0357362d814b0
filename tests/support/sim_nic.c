/* Contexts of the simulated NIC, and how it seals with them. A context that went while a record of
 * it waits to leave leaves garbage, as real ones do; never the plaintext. */
#include "sim_nic.h"

#include <stdlib.h>
#include <string.h>

#include "sim_state.h"
#include "wire/wire.h"

static int find(const struct sim_nic *nic, uint64_t id)
{
    for (unsigned i = 0; i < SIM_NIC_MAX_CTXS; i++) {
        if (nic->ctxs[i].id == id)
            return (int)i;
    }
    return -1;
}

static void drop(struct sim_nic *nic, unsigned i)
{
    const struct smt_aead *aead = nic->host->net->aead;
    aead->fini(nic->ctxs[i].ctx);
    free(nic->ctxs[i].ctx);
    nic->ctxs[i].id = 0;
    nic->ctxs[i].ctx = NULL;
}

static int nic_open(void *arg, const struct smt_seal_key *key, uint64_t *ctx)
{
    struct sim_nic *nic = arg;
    const struct smt_aead *aead = nic->host->net->aead;
    if (nic->is_unsupported || key->key_len != aead->key_len)
        return SMT_EUNSUPPORTED;
    if (nic->max_ctxs == 0)
        return SMT_EAGAIN;
    unsigned n = 0, oldest = 0;
    for (unsigned i = 0; i < SIM_NIC_MAX_CTXS; i++) {
        if (nic->ctxs[i].id == 0)
            continue;
        if (n == 0 || nic->ctxs[i].since < nic->ctxs[oldest].since)
            oldest = i;
        n++;
    }
    if (n >= nic->max_ctxs)
        drop(nic, oldest);
    int i = find(nic, 0);
    assert(i >= 0);
    nic->ctxs[i].ctx = aligned_alloc(64, (aead->ctx_len + 63) / 64 * 64);
    memset(nic->ctxs[i].ctx, 0, aead->ctx_len);
    if (aead->init(nic->ctxs[i].ctx, key->key) < 0) {
        free(nic->ctxs[i].ctx);
        return SMT_EAGAIN;
    }
    memcpy(nic->ctxs[i].salt, key->salt, 4);
    nic->ctxs[i].id = nic->ctxs[i].since = ++nic->next;
    nic->n_opened++;
    *ctx = nic->next;
    return 0;
}

static void nic_close(void *arg, uint64_t ctx)
{
    struct sim_nic *nic = arg;
    int i = find(nic, ctx);
    nic->n_closed++;
    if (i >= 0)
        drop(nic, (unsigned)i);
}

static int nic_reserve(void *arg, uint64_t ctx, const struct smt_seal_record *record,
                       uint8_t **out)
{
    struct sim_nic *nic = arg;
    if (nic->lose > 0 && smt_prng_below(&nic->host->net->rng, SIM_ALWAYS) < nic->lose)
        sim_nic_reset(nic);
    return find(nic, ctx) < 0 ? SMT_ESTATE : sim_nic_reserve(nic->host, ctx, record, out);
}

void sim_nic_seal(struct sim_nic *nic, uint64_t ctx, uint64_t record_no, uint8_t *record,
                  size_t record_len)
{
    int i = find(nic, ctx);
    size_t plain_len = record_len - SMT_RECORD_OVERHEAD;
    uint8_t *plain = record + SMT_RECORD_HEAD_LEN;
    if (nic->is_blind)
        return;
    if (i < 0 || nic->is_wrong) {
        memset(plain, 0x5a, plain_len + SMT_AEAD_TAG_LEN);
        return;
    }
    const struct smt_aead *aead = nic->host->net->aead;
    uint8_t nonce[SMT_AEAD_NONCE_LEN], aad[SMT_AAD_LEN];
    smt_record_nonce(nonce, nic->ctxs[i].salt, record_no);
    smt_record_aad(aad, record_no, plain_len);
    const struct smt_aead_in in = {plain, plain_len};
    int rc = aead->seal(nic->ctxs[i].ctx, nonce, aad, sizeof(aad), &in, 1, plain,
                        plain + plain_len);
    assert(rc == 0);
    (void)rc;
    nic->n_sealed++;
}

void sim_nic_reset(struct sim_nic *nic)
{
    nic->n_lost++;
    for (unsigned i = 0; i < SIM_NIC_MAX_CTXS; i++) {
        if (nic->ctxs[i].id != 0)
            drop(nic, i);
    }
}

unsigned sim_nic_n_open(const struct sim_nic *nic)
{
    unsigned n = 0;
    for (unsigned i = 0; i < SIM_NIC_MAX_CTXS; i++)
        n += nic->ctxs[i].id != 0;
    return n;
}

void sim_nic_fini(struct sim_nic *nic)
{
    sim_nic_reset(nic);
}

void sim_nic_init(struct sim_nic *nic, struct sim_host *host)
{
    *nic = (struct sim_nic){.sealer = {nic, 0, nic_open, nic_close, nic_reserve},
                            .host = host,
                            .max_ctxs = SIM_NIC_MAX_CTXS / 2};
    host->nic = nic;
    host->config.sealer = &nic->sealer;
}
