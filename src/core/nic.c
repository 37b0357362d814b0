/* A NIC seals for a conn only after the peer has opened a record that it sealed under the very
 * context: a one-way message of kind "test", which is acknowledged and never delivered. A context
 * that was lost, evicted or belongs to a former epoch is another context, with another test.
 * Meanwhile the CPU seals; nothing waits for a NIC.
 *
 * Tried and left out: trusting a context that was opened anew under a key that had passed. What is
 * tested is not the key but that this NIC, in its present state, encrypts. */
#include "core/nic.h"

#include "core/rpc_life.h"
#include "core/state.h"

enum { MAX_TESTS = 5, TEST_LEN = 2000, MAX_DOUBTS = 16 };

static const uint64_t lost_pause = 2 * SMT_MSEC;
static const uint64_t full_pause = 50 * SMT_MSEC;

/* Only assertions look at it. */
__attribute__((unused)) static const uint8_t arrows[SMT_NIC_N_STATES] = {
    [SMT_NIC_IDLE] = 1 << SMT_NIC_TESTING | 1 << SMT_NIC_DENIED,
    [SMT_NIC_TESTING] = 1 << SMT_NIC_IDLE | 1 << SMT_NIC_ON | 1 << SMT_NIC_DENIED,
    [SMT_NIC_ON] = 1 << SMT_NIC_IDLE | 1 << SMT_NIC_DENIED,
};

static void set_state(struct smt_conn *c, enum smt_nic_state to)
{
    assert(arrows[c->nic.state] >> to & 1);
    c->nic.state = to;
}

static void ctx_close(struct smt_conn *c)
{
    const struct smt_sealer *s = c->e->config.sealer;
    if (c->nic.ctx != 0)
        s->close(s->arg, c->nic.ctx);
    c->nic.ctx = 0;
}

/* The test's bytes say nothing, but take two packets. */
static const uint8_t test_bytes[TEST_LEN];

static bool test_post(struct smt_conn *c)
{
    struct smt_engine *e = c->e;
    const struct smt_post_iov iov = {test_bytes, TEST_LEN};
    if (c->open_calls >= c->peer_open || c->out_bytes + TEST_LEN > c->peer_bytes ||
        c->peer_max_message < TEST_LEN || c->unsched_limit < TEST_LEN)
        return false;
    struct smt_rpc *r = smt_rpc_new(c, c->next_id);
    if (r == NULL)
        return false;
    int rc = smt_msg_tx_init(&r->tx, &iov, 1, TEST_LEN, &e->iov_blocks);
    assert(rc == 0); /* one piece needs no memory */
    (void)rc;
    smt_rpc_set_state(r, SMT_RPC_AWAIT_ACK);
    c->nic.test_id = c->next_id++;
    r->one_way = r->is_test = r->is_involved = r->counted = true;
    r->out_len = TEST_LEN;
    r->tx.unsched = r->tx.granted = TEST_LEN;
    c->open_calls++;
    c->out_bytes += TEST_LEN;
    e->stats.nic_tests++;
    smt_engine_posted(e, r);
    return true;
}

static void begin(struct smt_conn *c, uint64_t now)
{
    const struct smt_sealer *s = c->e->config.sealer;
    struct smt_nic *n = &c->nic;
    if (now < n->retry_at)
        return;
    struct smt_seal_key key;
    smt_keys_lend_data(&c->keys, &key);
    int rc = s->open(s->arg, &key, &n->ctx);
    if (rc < 0) {
        n->ctx = 0;
        n->retry_at = now + full_pause;
        c->e->stats.nic_no_context++;
        if (rc == SMT_EUNSUPPORTED)
            set_state(c, SMT_NIC_DENIED);
        return;
    }
    n->epoch = c->keys.now.number;
    n->n_tests = n->n_doubts = 0;
    if (!test_post(c)) {
        ctx_close(c);
        n->retry_at = now + full_pause;
        return;
    }
    set_state(c, SMT_NIC_TESTING);
}

static void go_idle(struct smt_conn *c, uint64_t retry_at)
{
    ctx_close(c);
    c->nic.retry_at = retry_at;
    set_state(c, SMT_NIC_IDLE);
}

bool smt_nic_is_ready(struct smt_conn *c, uint64_t now)
{
    struct smt_nic *n = &c->nic;
    if (SMT_LIKELY(n->state == SMT_NIC_ON)) {
        if (SMT_LIKELY(n->epoch == c->keys.now.number))
            return true;
        go_idle(c, now);
    }
    if (n->state == SMT_NIC_IDLE && c->may_burst && c->state == SMT_CONN_UP)
        begin(c, now);
    return false;
}

bool smt_nic_may_test(struct smt_conn *c)
{
    return c->nic.state == SMT_NIC_TESTING && c->nic.epoch == c->keys.now.number;
}

/* A test that is under way no longer says anything. */
static void test_drop(struct smt_conn *c)
{
    struct smt_rpc *r = smt_rpc_find(c, c->nic.test_id);
    if (r != NULL && r->is_test && r->state == SMT_RPC_AWAIT_ACK)
        smt_rpc_retire(r);
}

void smt_nic_lost(struct smt_conn *c, uint64_t now)
{
    c->e->stats.nic_lost++;
    bool testing = c->nic.state == SMT_NIC_TESTING;
    go_idle(c, now + lost_pause);
    if (testing)
        test_drop(c);
}

void smt_nic_refused(struct smt_conn *c)
{
    c->may_burst = c->may_slice = false;
    if (c->e->config.sealer == NULL || c->nic.state == SMT_NIC_DENIED)
        return;
    c->e->stats.nic_refused++;
    bool testing = c->nic.state == SMT_NIC_TESTING;
    ctx_close(c);
    set_state(c, SMT_NIC_DENIED);
    if (testing)
        test_drop(c);
}

void smt_nic_doubt(struct smt_rpc *r)
{
    struct smt_nic *n = &r->conn->nic;
    if (SMT_LIKELY(!r->tx.by_nic))
        return;
    r->tx.by_nic = false;
    if (n->state == SMT_NIC_ON && ++n->n_doubts >= MAX_DOUBTS)
        smt_nic_lost(r->conn, r->conn->e->now);
}

void smt_nic_worked(struct smt_rpc *r)
{
    r->conn->nic.n_doubts = 0;
}

void smt_nic_note_cpu(const struct smt_rpc *r)
{
    const struct smt_conn *c = r->conn;
    const struct smt_sealer *s = c->e->config.sealer;
    if (s == NULL)
        return;
    struct smt_stats *st = &c->e->stats;
    if (r->tx.lost.n > 0 || r->tx.seal >> SMT_SEAL_INDEX_BITS > 0)
        st->nic_not_again++;
    else if (r->tx.len < s->min_len)
        st->nic_not_worth++;
    else if (c->nic.state != SMT_NIC_ON || c->nic.epoch != c->keys.now.number)
        st->nic_not_ready++;
}

/* Is it the test of the present context? */
static bool is_current(const struct smt_rpc *r)
{
    const struct smt_nic *n = &r->conn->nic;
    return n->state == SMT_NIC_TESTING && n->test_id == r->id;
}

void smt_nic_test_passed(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    if (is_current(r)) {
        c->e->stats.nic_tests_passed++;
        set_state(c, SMT_NIC_ON);
    }
    smt_rpc_retire(r);
}

void smt_nic_test_failed(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    if (is_current(r)) {
        c->e->stats.nic_tests_failed++;
        ctx_close(c);
        set_state(c, SMT_NIC_DENIED);
    }
    smt_rpc_retire(r);
}

bool smt_nic_test_again(struct smt_rpc *r)
{
    if (is_current(r) && ++r->conn->nic.n_tests < MAX_TESTS)
        return true;
    smt_nic_test_failed(r);
    return false;
}

const char *smt_nic_why_not(const struct smt_conn *c)
{
    const struct smt_nic *n = &c->nic;
    if (c->e->config.sealer == NULL)
        return "the device does not seal";
    switch (n->state) {
    case SMT_NIC_ON:
        return NULL;
    case SMT_NIC_TESTING:
        return "the peer has not answered the NIC's test record yet";
    case SMT_NIC_DENIED:
        return "the NIC cannot seal with this cipher, or the peer could not open what it sealed";
    default:
        break;
    }
    if (!c->may_burst)
        return "the peer takes no records in slices, or not by IPv4";
    return n->retry_at > 0 ? "the NIC has no context for this session now"
                           : "no record was worth a NIC's context yet";
}

void smt_nic_fini(struct smt_conn *c)
{
    if (c->nic.state == SMT_NIC_TESTING || c->nic.state == SMT_NIC_ON)
        go_idle(c, SMT_NEVER);
}
