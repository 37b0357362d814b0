/* A good stream of commands and WQEs, with one bit of it changed at a time: the model has to
 * complain, refuse or fail it, or the receiver has to refuse what comes. What stays silent must be
 * in the list of harmless bits (`harmless`), each with its reason.
 *
 * The receiver knows key, record number and cut, as the library's does: it looks at length and
 * checksum of IPv4, at the identification, and opens the record. The bytes of the inline header are
 * no fields of the device but for its shape, and are left out. */
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "drive.h"

enum { PLAIN = 2500, MSS = 1400, TAIL = 1100, RECORD = 5, SEGMENT = 7 * 16, SECOND = 8192 };

/* The parts of the stream, in order. */
enum part { TD, TIS, DEK, STATIC, PROGRESS, NOP, LSO, STATIC_2, PROGRESS_2, DUMP, SEND, N_PARTS };

static const char *const part_names[N_PARTS] = {
    "ALLOC_TRANSPORT_DOMAIN", "CREATE_TIS",     "CREATE DEK", "static", "progress", "NOP", "LSO",
    "static again",           "progress again", "DUMP",       "SEND"};

static const struct {
    uint32_t first, end; /* bytes of it that are changed */
} spans[N_PARTS] = {{0, 16}, {0, 192}, {0, 272}, {0, 192}, {0, 32}, {0, 16},
                    {0, 30}, {0, 192}, {0, 32},  {0, 32},  {0, 30}};

static const uint8_t key[16] = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 11, 12, 13, 14, 15, 16};
static const uint8_t iv[12] = {0x87, 0xc6, 0x35, 0xc8};

static struct drive a, b;
static char dir[64], complaints[96];
static uint32_t record_len;

static off_t complaints_len(void)
{
    struct stat st;
    return stat(complaints, &st) == 0 ? st.st_size : 0;
}

static bool opens(const uint8_t *record, uint32_t len, uint64_t number)
{
    static uint8_t plain[PLAIN];
    uint8_t nonce[12], aad[13] = {0}, tag[16];
    int n;
    if (len != record_len)
        return false;
    memcpy(nonce, iv, 4);
    memset(nonce + 4, 0, 8);
    nonce[11] = aad[7] = (uint8_t)number;
    memcpy(aad + 8, (uint8_t[]){0x17, 3, 3, PLAIN >> 8, PLAIN & 0xff}, 5);
    memcpy(tag, record + len - 16, 16);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    bool good = EVP_DecryptInit_ex(c, EVP_aes_128_gcm(), NULL, key, nonce) == 1 &&
                EVP_DecryptUpdate(c, NULL, &n, aad, 13) == 1 &&
                EVP_DecryptUpdate(c, plain, &n, record + 13, PLAIN) == 1 &&
                EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, 16, tag) == 1 &&
                EVP_DecryptFinal_ex(c, plain + n, &n) == 1;
    EVP_CIPHER_CTX_free(c);
    return good && record[12] == number && memcmp(plain, a.mem + 13, PLAIN) == 0;
}

static bool ipv4_right(const uint8_t *f, uint32_t len, unsigned id)
{
    uint32_t sum = 0;
    for (unsigned i = 14; i < 34; i += 2)
        sum += (uint32_t)f[i] << 8 | f[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum == 0xffff && (f[16] << 8 | f[17]) == (int)len - 14 &&
           (f[18] << 8 | f[19]) == (int)id;
}

/* The frames of one burst as the receiver takes them. */
static bool burst_arrives(uint32_t header_len)
{
    static uint8_t record[DRIVE_RECORD_MAX];
    uint32_t total = 0, len;
    const uint8_t *f;
    for (unsigned id = 0; total < record_len; id++) {
        f = drive_frame(&b, &len);
        uint32_t want = record_len - total < MSS ? record_len - total : MSS;
        if (f == NULL || len != header_len + want || !ipv4_right(f, len, id))
            return false;
        memcpy(record + total, f + header_len, want);
        total += want;
    }
    return opens(record, total, RECORD);
}

/* The tail of record 6, behind what was dumped: compared with what the burst would have been. */
static bool tail_arrives(uint32_t header_len, const uint8_t *sealed)
{
    uint32_t len;
    const uint8_t *f = drive_frame(&b, &len);
    return f != NULL && len == header_len + TAIL && ipv4_right(f, len, 0) &&
           memcmp(f + header_len, sealed + record_len - TAIL, TAIL) == 0;
}

static void seal_here(uint64_t number, uint8_t *out)
{
    uint8_t nonce[12] = {0}, aad[13] = {0};
    int n;
    memcpy(nonce, iv, 4);
    nonce[11] = aad[7] = (uint8_t)number;
    memcpy(aad + 8, (uint8_t[]){0x17, 3, 3, PLAIN >> 8, PLAIN & 0xff}, 5);
    memcpy(out, a.mem + SECOND, 13);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    assert_int_equal(EVP_EncryptInit_ex(c, EVP_aes_128_gcm(), NULL, key, nonce), 1);
    assert_int_equal(EVP_EncryptUpdate(c, NULL, &n, aad, 13), 1);
    assert_int_equal(EVP_EncryptUpdate(c, out + 13, &n, a.mem + SECOND + 13, PLAIN), 1);
    assert_int_equal(EVP_EncryptFinal_ex(c, out + 13 + PLAIN, &n), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, 16, out + 13 + PLAIN), 1);
    EVP_CIPHER_CTX_free(c);
}

static void flip(uint8_t *bytes, int bit)
{
    if (bit >= 0)
        bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
}

static void objects_drop(void)
{
    struct mlx5dv_devx_obj **all[] = {&a.tis, &a.dek, &a.td};
    for (unsigned i = 0; i < 3; i++) {
        if (*all[i] != NULL)
            assert_int_equal(mlx5dv_devx_obj_destroy(*all[i]), 0);
        *all[i] = NULL;
    }
}

static struct mlx5dv_devx_obj *object_make(uint8_t *in, uint32_t len, int bit, enum mm_field where,
                                           uint32_t *number)
{
    uint8_t out[16];
    flip(in, bit);
    struct mlx5dv_devx_obj *o = mlx5dv_devx_obj_create(a.ctx, in, len, out, sizeof(out));
    *number = o != NULL ? (uint32_t)mm_get(out, where) : 0;
    return o;
}

static void queue_restart(void)
{
    struct ibv_qp_attr reset = {.qp_state = IBV_QPS_RESET};
    struct ibv_qp_attr init = {.qp_state = IBV_QPS_INIT, .port_num = 1};
    struct ibv_qp_attr rtr = {.qp_state = IBV_QPS_RTR}, rts = {.qp_state = IBV_QPS_RTS};
    assert_int_equal(ibv_modify_qp(a.qp, &reset, IBV_QP_STATE), 0);
    assert_int_equal(ibv_modify_qp(a.qp, &init, IBV_QP_STATE | IBV_QP_PORT), 0);
    assert_int_equal(ibv_modify_qp(a.qp, &rtr, IBV_QP_STATE), 0);
    assert_int_equal(ibv_modify_qp(a.qp, &rts, IBV_QP_STATE), 0);
}

static void rest_drop(void)
{
    struct ibv_wc wc;
    uint32_t len;
    while (drive_frame(&b, &len) != NULL) {
    }
    while (ibv_poll_cq(a.tx_cq, 1, &wc) == 1) {
    }
}

/* How many of its eight WQEs the stream completes well: all ask for a completion. */
static unsigned completions(void)
{
    unsigned good = 0;
    for (int s; (s = drive_polled(&a, NULL)) >= 0;)
        good += s == IBV_WC_SUCCESS;
    return good;
}

static void stream_build(uint8_t (*w)[1024], const uint8_t *h, uint32_t header_len)
{
    uint64_t at = (uintptr_t)a.mem;
    drive_wqe_static(&a, w[0], 2, iv, RECORD, 0);
    drive_wqe_progress(&a, w[1], 1);
    drive_wqe_nop(&a, w[2], 1);
    drive_wqe_lso(&a, w[3], h, header_len, MSS, at, record_len);
    drive_wqe_static(&a, w[4], 2, iv, RECORD + 1, 1);
    drive_wqe_progress(&a, w[5], 0);
    drive_wqe_dump(&a, w[6], at + SECOND, record_len - TAIL, 1);
    /* Only LSO writes the length. */
    uint8_t h_send[128];
    memcpy(h_send, h, header_len);
    h_send[16] = (uint8_t)((header_len - 14 + TAIL) >> 8);
    h_send[17] = (uint8_t)(header_len - 14 + TAIL);
    drive_wqe_send(&a, w[7], h_send, header_len, at + SECOND + record_len - TAIL, TAIL);
    for (unsigned i = 0; i < 8; i++)
        mm_set(w[i], MM_CTRL_CE, 2);
}

enum outcome { SILENT, COMPLAINT, REFUSED, N_OUTCOMES };

/* Runs the stream with this bit of this part changed: who noticed. */
static enum outcome run(enum part part, int bit, const uint8_t *sealed)
{
    static uint8_t w[8][1024];
    uint8_t in[272], h[128];
    off_t before = complaints_len();
    bool good = false;
    a.td = object_make(in, drive_cmd_td(in), part == TD ? bit : -1, MM_OUT_NUMBER, &a.tdn);
    if (a.td != NULL)
        a.tis =
            object_make(in, drive_cmd_tis(&a, in), part == TIS ? bit : -1, MM_OUT_NUMBER, &a.tisn);
    if (a.tis != NULL)
        a.dek = object_make(in, drive_cmd_dek(&a, key, 16, in), part == DEK ? bit : -1,
                            MM_OUT_OBJ_ID, &a.dek_id);
    if (a.dek != NULL) {
        uint32_t header_len = drive_header(&a, &b, 4, 254, h);
        stream_build(w, h, header_len);
        if (part >= STATIC)
            flip(w[part - STATIC], bit);
        good = drive_post(&a, w, 8) == 0 && completions() == 8 && burst_arrives(header_len) &&
               tail_arrives(header_len, sealed);
    }
    rest_drop();
    queue_restart();
    objects_drop();
    return complaints_len() != before ? COMPLAINT : !good ? REFUSED : SILENT;
}

/* Bits that change nothing anybody could mind. */
static const struct {
    enum mm_field field;
    const char *reason;
    uint32_t parts; /* of these parts, by bits */
} harmless[] = {
    {MM_CTRL_WQE_INDEX, "libmlx5 writes it over", 0x7f8},
    {MM_CTRL_FENCE, "a fence more waits longer; static and progress share the next one's", 0x7f8},
    {MM_ETH_CS_FLAGS, "the checksum of a protocol that has none", 1 << LSO | 1 << SEND},
};

static enum mm_field field_at(enum part part, int bit, bool *known)
{
    static const struct {
        enum part part;
        int first;
        enum mm_layout layout;
    } places[] = {
        {TD, 0, MM_CMD_IN},
        {TIS, 0, MM_TIS_IN},
        {DEK, 0, MM_OBJ_IN},
        {DEK, 128, MM_DEK},
        {STATIC, 0, MM_CTRL},
        {STATIC, 128, MM_UMR},
        {STATIC, 512, MM_MKEY},
        {STATIC, 1024, MM_STATIC},
        {PROGRESS, 0, MM_CTRL},
        {PROGRESS, 128, MM_PROGRESS},
        {NOP, 0, MM_CTRL},
        {LSO, 0, MM_CTRL},
        {LSO, 128, MM_ETH},
        {STATIC_2, 0, MM_CTRL},
        {STATIC_2, 128, MM_UMR},
        {STATIC_2, 512, MM_MKEY},
        {STATIC_2, 1024, MM_STATIC},
        {PROGRESS_2, 0, MM_CTRL},
        {PROGRESS_2, 128, MM_PROGRESS},
        {DUMP, 0, MM_CTRL},
        {DUMP, 128, MM_DATA},
        {SEND, 0, MM_CTRL},
        {SEND, 128, MM_ETH},
        {LSO, SEGMENT * 8, MM_DATA},
        {SEND, SEGMENT * 8, MM_DATA},
    };
    enum mm_layout layout = MM_N_LAYOUTS;
    int at = bit;
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (places[i].part == part && bit >= places[i].first) {
            layout = places[i].layout;
            at = bit - places[i].first;
        }
    }
    *known = true;
    for (unsigned f = 0; f < MM_N_FIELDS; f++) {
        if (mm_fields[f].layout == layout && at >= mm_fields[f].bit &&
            at < mm_fields[f].bit + mm_fields[f].width)
            return f;
    }
    *known = false;
    return 0;
}

static bool is_harmless(enum part part, int bit)
{
    bool known;
    enum mm_field f = field_at(part, bit, &known);
    for (unsigned i = 0; known && i < sizeof(harmless) / sizeof(harmless[0]); i++) {
        if (harmless[i].field == f && harmless[i].parts >> part & 1)
            return true;
    }
    return false;
}

struct tally {
    unsigned outcomes[N_OUTCOMES], harmless[MM_N_FIELDS], bad;
};

static void try_bit(enum part part, int bit, const uint8_t *sealed, struct tally *t)
{
    enum outcome o = run(part, bit, sealed);
    bool known;
    enum mm_field f = field_at(part, bit, &known);
    t->outcomes[o]++;
    if (o != SILENT)
        return;
    if (is_harmless(part, bit)) {
        t->harmless[f]++;
        return;
    }
    printf("silent: %s, bit 0x%x (byte %d), %s\n", part_names[part], (unsigned)bit, bit / 8,
           known ? mm_fields[f].name : "reserved");
    t->bad++;
}

static void test_every_bit(void **state)
{
    (void)state;
    static uint8_t sealed[DRIVE_RECORD_MAX];
    struct tally all = {0};
    seal_here(RECORD + 1, sealed);
    assert_int_equal(run(TD, -1, sealed), SILENT);
    for (enum part part = 0; part < N_PARTS; part++) {
        struct tally t = {0};
        for (int bit = (int)spans[part].first * 8; bit < (int)spans[part].end * 8; bit++)
            try_bit(part, bit, sealed, &t);
        for (int bit = 0; (part == LSO || part == SEND) && bit < 128; bit++)
            try_bit(part, SEGMENT * 8 + bit, sealed, &t);
        printf("%-24s %4u complaints, %4u refused by the receiver, %3u silent\n", part_names[part],
               t.outcomes[COMPLAINT], t.outcomes[REFUSED], t.outcomes[SILENT]);
        for (unsigned o = 0; o < N_OUTCOMES; o++)
            all.outcomes[o] += t.outcomes[o];
        for (unsigned f = 0; f < MM_N_FIELDS; f++)
            all.harmless[f] += t.harmless[f];
        all.bad += t.bad;
    }
    for (unsigned i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
        printf("harmless: %3u bits of %s: %s\n", all.harmless[harmless[i].field],
               mm_fields[harmless[i].field].name, harmless[i].reason);
    printf("%u complaints, %u refused, %u silent, %u of these not in the list\n",
           all.outcomes[COMPLAINT], all.outcomes[REFUSED], all.outcomes[SILENT], all.bad);
    assert_int_equal(all.bad, 0);
}

static int wire_open(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/dev/shm/mlx5-mutate.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return 1;
    char knobs[160];
    snprintf(knobs, sizeof(knobs), "full,devices=2,abort=0,quiet=1,dir=%s", dir);
    snprintf(complaints, sizeof(complaints), "%s/COMPLAINTS", dir);
    setenv("MLX5_MODEL", knobs, 1);
    if (drive_open(&a, 0) != 0 || drive_open(&b, 1) != 0 || drive_recvs(&b) != 0 ||
        drive_flow_protocol(&b, 254) != 0)
        return 1;
    record_len = drive_record(a.mem, RECORD, PLAIN);
    uint32_t x = 1; /* no pattern: elsewhere in memory are other bytes */
    for (unsigned i = 0; i < PLAIN; i++)
        a.mem[13 + i] = (uint8_t)((x = x * 1103515245 + 12345) >> 16);
    drive_record(a.mem + SECOND, RECORD + 1, PLAIN);
    for (unsigned i = 0; i < PLAIN; i++)
        a.mem[SECOND + 13 + i] = (uint8_t)~a.mem[13 + i];
    return 0;
}

static int wire_close(void **state)
{
    (void)state;
    drive_close(&a);
    drive_close(&b);
    char command[128];
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_bit, wire_open, wire_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
