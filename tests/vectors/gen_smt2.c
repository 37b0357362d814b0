/* Writes tests/vectors/smt2.txt to standard output: packets of profile smt2 made by the library's
 * own wire and crypto code from fixed keys and ids, each with the fields that went in.
 * decode_smt2.py, which shares nothing with this code, takes the packets apart and compares; a test
 * compares the committed file with what this program writes. Every packet made here is also decoded
 * and opened here, by the library.
 *
 * The file is sections "[name]" of "key=value" lines; "type" says what a section is. Long hex
 * goes on in lines that begin with two spaces. */
#include <stdio.h>
#include <string.h>

#include "vector.h"
#include "wire/params.h"

/* Data that differ from byte to byte and from message to message. */
static void fill(uint8_t *p, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(seed + i * 31 + (i >> 8) * 7);
}

static void key_put(const char *name, const struct smt_key *k, size_t key_len)
{
    char label[32];
    snprintf(label, sizeof(label), "%s.key", name);
    vec_hex(label, k->key, key_len);
    snprintf(label, sizeof(label), "%s.salt", name);
    vec_hex(label, k->salt, SMT_SALT_LEN);
}

static void keyset_make(struct keyset *ks, const char *name, enum smt_aead_alg alg, uint8_t epoch,
                        const uint8_t *secret, const char *note)
{
    *ks = (struct keyset){.name = name, .aead = smt_aead_find(alg, NULL), .epoch = epoch};
    vec_check(ks->aead && smt_schedule_keys(secret, ks->aead->key_len, &ks->keys) == 0, "keys");
    uint8_t next[SMT_SECRET_LEN];
    vec_check(smt_schedule_next(secret, next) == 0, "next secret");
    vec_section(name, epoch ? "keys" : "early-keys", note);
    vec_hex("secret", secret, SMT_SECRET_LEN);
    vec_num("key_length", ks->aead->key_len);
    vec_num("epoch", epoch);
    if (epoch > 1)
        printf("previous=keys-128\n");
    key_put("i_data", &ks->keys.i_data, ks->aead->key_len);
    if (epoch == 0)
        return;
    key_put("r_data", &ks->keys.r_data, ks->aead->key_len);
    key_put("i_ctrl", &ks->keys.i_ctrl, ks->aead->key_len);
    key_put("r_ctrl", &ks->keys.r_ctrl, ks->aead->key_len);
    vec_hex("next_secret", next, sizeof(next));
}

static struct keyset k128, k256, k128_epoch2, k_early;

static void keys_section(void)
{
    uint8_t secret[SMT_SECRET_LEN], next[SMT_SECRET_LEN], early[SMT_SECRET_LEN];
    for (unsigned i = 0; i < sizeof(secret); i++) {
        secret[i] = (uint8_t)i;
        early[i] = (uint8_t)(0xe0 + i);
    }
    keyset_make(&k128, "keys-128", SMT_AEAD_AES128_GCM, 1, secret, "Epoch 1, AES-128-GCM.");
    keyset_make(&k256, "keys-256", SMT_AEAD_AES256_GCM, 1, secret,
                "The same secret for AES-256-GCM.");
    vec_check(smt_schedule_next(secret, next) == 0, "next secret");
    keyset_make(&k128_epoch2, "keys-128-epoch-2", SMT_AEAD_AES128_GCM, 2, next,
                "Epoch 2: secret is next_secret of epoch 1.");
    keyset_make(&k_early, "keys-early", SMT_AEAD_AES128_GCM, 0, early,
                "0-RTT: its own secret, one key.");
}

static size_t params_put(const char *name, const struct smt_params *p, uint8_t *block)
{
    int len = smt_params_encode(p, block, SMT_PARAMS_MAX_LEN);
    struct smt_params back;
    vec_check(len > 0 && smt_params_decode(block, (size_t)len, &back) == 0, "parameters");
    vec_section(name, "params", "Transport parameters.");
    vec_id("session_id", p->session_id);
    vec_hex("versions", p->versions, p->n_versions);
    vec_num("carriages", p->carriages);
    vec_num("record_forms", p->record_forms);
    vec_hex("ciphers", p->ciphers, p->n_ciphers);
    vec_num("largest_packet", p->mtu);
    vec_num("open_rpcs", p->open_rpcs);
    vec_num("unfinished_bytes", p->unfinished_bytes);
    vec_num("largest_message", p->max_message);
    vec_num("in_flight", p->rx_window);
    vec_num("unscheduled", p->unsched);
    vec_num("idle_timeout", p->idle_timeout_ms);
    vec_hex("block", block, (size_t)len);
    return (size_t)len;
}

static void context_put(const char *name, const char *note, bool early, const uint8_t *i_block,
                        size_t i_len, const uint8_t *r_block, size_t r_len)
{
    uint8_t version = SMT_WIRE_VERSION, cipher = SMT_AEAD_AES128_GCM;
    uint8_t ids[16], lens[4], hash[32];
    smt_put_be64(ids, vec_initiator_id);
    smt_put_be64(ids + 8, vec_responder_id);
    smt_put_be16(lens, (uint16_t)i_len);
    smt_put_be16(lens + 2, (uint16_t)r_len);
    const struct smt_aead_in full[] = {{&version, 1},    {ids, 16},     {lens, 2},
                                       {i_block, i_len}, {lens + 2, 2}, {r_block, r_len},
                                       {&cipher, 1}};
    const struct smt_aead_in half[] = {
        {&version, 1}, {ids, 8}, {lens, 2}, {i_block, i_len}, {&cipher, 1}};
    vec_check(smt_sha256(early ? half : full, early ? 5 : 7, hash) == 0, "SHA-256");
    vec_section(name, early ? "early-context" : "context", note);
    vec_num("version", version);
    vec_id("initiator_id", vec_initiator_id);
    if (!early)
        vec_id("responder_id", vec_responder_id);
    printf("initiator_params=params-initiator\n");
    if (!early)
        printf("responder_params=params-responder\n");
    vec_num("cipher", cipher);
    vec_hex("sha256", hash, sizeof(hash));
}

static void params_section(void)
{
    uint8_t i_block[SMT_PARAMS_MAX_LEN], r_block[SMT_PARAMS_MAX_LEN];
    struct smt_params p;
    smt_params_init(&p);
    p.session_id = vec_initiator_id;
    p.versions[0] = SMT_WIRE_VERSION;
    p.n_versions = 1;
    p.ciphers[0] = 1;
    p.ciphers[1] = 2;
    p.n_ciphers = 2;
    size_t i_len = params_put("params-initiator", &p, i_block);
    p.session_id = vec_responder_id;
    p.n_ciphers = 1;
    p.carriages = 3;
    p.record_forms = 3;
    p.mtu = 1500;
    p.open_rpcs = 1024;
    p.unfinished_bytes = 1ull << 33;
    p.max_message = 1 << 20;
    p.rx_window = 262144;
    p.unsched = 20000;
    p.idle_timeout_ms = 60000;
    size_t r_len = params_put("params-responder", &p, r_block);
    context_put("exporter-context", "The context of the exporter.", false, i_block, i_len, r_block,
                r_len);
    context_put("early-context", "The context of the early exporter.", true, i_block, i_len, NULL,
                0);
}

static void rpc_section(void)
{
    uint8_t data[64];
    fill(data, sizeof(data), 1);
    static const struct smt_frame ack = {.type = SMT_FRAME_ACK, .id = SMT_ID_ROLE | 3};
    struct packet p = {
        .name = "request-64",
        .note = "A request of 64 bytes in one packet; an ACK of an earlier response rides along.",
        .keys = &k128,
        .hdr = {.kind = SMT_KIND_DATA, .rpc_id = 5, .message_len = 64},
        .inner = {.what = SMT_WHAT_REQUEST,
                  .flags = SMT_INNER_EXT | SMT_INNER_IDEMPOTENT,
                  .low_water = 1,
                  .done = 2,
                  .unsched = 64,
                  .cutoffs_version = 7},
        .frames = &ack,
        .n_frames = 1,
        .data = data,
        .data_len = sizeof(data),
    };
    vec_packet(&p);
    vec_message("message-request-64", "request-64", data, sizeof(data));

    p.name = "request-64-aes-256";
    p.note = "The same under AES-256-GCM.";
    p.keys = &k256;
    vec_packet(&p);

    p.name = "request-64-early";
    p.note = "The same as 0-RTT: the initiator's own session id, epoch byte 0.";
    p.keys = &k_early;
    p.hdr.kind = SMT_KIND_EARLY;
    p.n_frames = 0;
    vec_packet(&p);

    p.name = "request-64-epoch-2-high-id-padded";
    p.note = "Epoch 2, an id above 2^33, 23 bytes of padding behind the record.";
    p.keys = &k128_epoch2;
    p.hdr.kind = SMT_KIND_DATA;
    p.hdr.rpc_id = 0x2345678200000005;
    p.pad_len = 23;
    vec_packet(&p);

    uint8_t reply[100];
    fill(reply, sizeof(reply), 77);
    vec_packet(&(struct packet){
        .name = "response-100",
        .note = "The response to request-64: role 1, the responder's data key.",
        .keys = &k128,
        .from_responder = true,
        .hdr = {.kind = SMT_KIND_DATA, .rpc_id = SMT_ID_ROLE | 5, .message_len = 100},
        .inner =
            {.what = SMT_WHAT_RESPONSE, .flags = SMT_INNER_EXT, .low_water = 1, .unsched = 100},
        .data = reply,
        .data_len = sizeof(reply),
    });
    vec_message("message-response-100", "response-100", reply, sizeof(reply));
    vec_packet(&(struct packet){
        .name = "oneway-0",
        .note = "A message of no bytes.",
        .keys = &k128,
        .from_responder = true,
        .hdr = {.kind = SMT_KIND_DATA, .rpc_id = 1},
        .inner = {.what = SMT_WHAT_ONEWAY, .flags = SMT_INNER_EXT, .low_water = 1},
    });
    vec_message("message-oneway-0", "oneway-0", NULL, 0);
}

static void long_message_section(void)
{
    static const struct {
        const char *name, *note;
        uint32_t offset, len, seal;
    } rows[] = {
        {"oneway-1000-a", "A one-way message of three records: the first, with extension.", 0, 400,
         0},
        {"oneway-1000-b", "The second.", 400, 400, 1},
        {"oneway-1000-c", "The third.", 800, 200, 2},
        {"oneway-1000-b-again-1", "The second again, sealed anew and cut in two: seal counter 3.",
         400, 250, 3},
        {"oneway-1000-b-again-2", "Its rest, seal counter 4.", 650, 150, 4},
        {"oneway-1000-over-a", "The message starts over: attempt 1, index 0.", 0, 450, 1 << 24},
        {"oneway-1000-over-b", "Attempt 1, index 1.", 450, 550, 1 << 24 | 1},
    };
    uint8_t data[1000];
    fill(data, sizeof(data), 200);
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        bool first = rows[i].offset == 0;
        vec_packet(&(struct packet){
            .name = rows[i].name,
            .note = rows[i].note,
            .keys = &k128,
            .hdr = {.kind = SMT_KIND_DATA,
                    .rpc_id = 6,
                    .message_len = sizeof(data),
                    .offset = rows[i].offset,
                    .seal = rows[i].seal},
            .inner = {.what = SMT_WHAT_ONEWAY,
                      .flags = first ? SMT_INNER_EXT : 0,
                      .low_water = first ? 5 : 0,
                      .unsched = first ? sizeof(data) : 0},
            .data = data + rows[i].offset,
            .data_len = rows[i].len,
        });
    }
    vec_message("message-oneway-1000", "oneway-1000-a,oneway-1000-b,oneway-1000-c", data,
                sizeof(data));
    vec_message("message-oneway-1000-again",
                "oneway-1000-c,oneway-1000-b-again-2,oneway-1000-a,oneway-1000-b-again-1", data,
                sizeof(data));
    vec_message("message-oneway-1000-over", "oneway-1000-over-b,oneway-1000-over-a", data,
                sizeof(data));
}

static void burst_section(void)
{
    uint8_t data[1200];
    fill(data, sizeof(data), 33);
    vec_packet(&(struct packet){
        .name = "burst-1200",
        .note = "A response in one record over three packets of a burst (raw IP; IPv4 id 0, 1, 2).",
        .keys = &k128,
        .from_responder = true,
        .hdr = {.kind = SMT_KIND_DATA, .rpc_id = SMT_ID_ROLE | 7, .message_len = sizeof(data)},
        .inner = {.what = SMT_WHAT_RESPONSE,
                  .flags = SMT_INNER_EXT,
                  .low_water = 1,
                  .unsched = sizeof(data)},
        .data = data,
        .data_len = sizeof(data),
        .slice_len = 500,
    });
    vec_message("message-burst-1200", "burst-1200", data, sizeof(data));
}

static void slices_section(void)
{
    uint8_t data[1500];
    fill(data, sizeof(data), 34);
    vec_packet(&(struct packet){
        .name = "slices-1500",
        .note = "A request in one record over four packets of UDP; the tag lies in the last two.",
        .keys = &k128,
        .hdr = {.kind = SMT_KIND_DATA, .rpc_id = 9, .message_len = sizeof(data)},
        .inner = {.what = SMT_WHAT_REQUEST,
                  .flags = SMT_INNER_EXT,
                  .low_water = 1,
                  .unsched = sizeof(data)},
        .data = data,
        .data_len = sizeof(data),
        .slice_len = 521,
        .by_header = true,
    });
    vec_message("message-slices-1500", "slices-1500", data, sizeof(data));
}

static void ctrl_section(void)
{
    static const struct smt_frame frames[] = {
        {.type = SMT_FRAME_PAD},
        {.type = SMT_FRAME_PING, .token = 0x0102030405060708},
        {.type = SMT_FRAME_PONG, .token = 0x1112131415161718},
        {.type = SMT_FRAME_MARK, .seq = 9, .packets = 1000, .bytes = 4000000000},
        {.type = SMT_FRAME_SEEN, .seq = 8, .packets = 990, .bytes = 3999000000, .ce = 3},
        {.type = SMT_FRAME_PROBE, .token = 0x21222324},
        {.type = SMT_FRAME_PROBE_ACK, .token = 0x31323334, .code = 1472},
        {.type = SMT_FRAME_PATH_CHALLENGE, .token = 0x4142434445464748},
        {.type = SMT_FRAME_PATH_RESPONSE, .token = 0x5152535455565758},
        {.type = SMT_FRAME_GRANT, .id = 6, .offset = 65536, .length = 1200, .prio = 5},
        {.type = SMT_FRAME_RESEND, .id = 6, .offset = 1200, .length = 1200, .prio = 7, .flags = 1},
        {.type = SMT_FRAME_UNKNOWN, .id = SMT_ID_ROLE | 2, .flags = 1},
        {.type = SMT_FRAME_BUSY, .id = 5},
        {.type = SMT_FRAME_CUTOFFS,
         .code = 7,
         .length = 10000,
         .cutoffs = {1000000, 200000, 60000, 20000, 5000, 1500, 400}},
        {.type = SMT_FRAME_NEED_ACK, .id = 5},
        {.type = SMT_FRAME_ACK, .id = 5},
        {.type = SMT_FRAME_ABORT, .id = SMT_ID_ROLE | 2, .code = 304},
        {.type = SMT_FRAME_DONE, .low_water = 2, .bitmap = 5},
        {.type = SMT_FRAME_CREDIT, .length = 4096, .low_water = 64 << 20},
        {.type = SMT_FRAME_CLOSE, .code = 306},
        {.type = SMT_FRAME_REKEY},
    };
    vec_packet(&(struct packet){
        .name = "ctrl-every-frame",
        .note = "Each frame once, from the responder; control record number 0x1234.",
        .keys = &k128,
        .from_responder = true,
        .hdr = {.kind = SMT_KIND_CTRL},
        .record_no = 0x1234,
        .frames = frames,
        .n_frames = SMT_ARRAY_LEN(frames),
    });
    vec_packet(&(struct packet){
        .name = "ctrl-grant-padded",
        .note = "A grant from the initiator, record number 0, and 8 bytes of padding.",
        .keys = &k128,
        .hdr = {.kind = SMT_KIND_CTRL},
        .frames =
            &(struct smt_frame){
                .type = SMT_FRAME_GRANT, .id = SMT_ID_ROLE | 7, .offset = 1200, .prio = 6},
        .n_frames = 1,
        .pad_len = 8,
    });
    static const struct smt_frame late[] = {
        {.type = SMT_FRAME_LATE, .seq = 9, .length = 250000},
        {.type = SMT_FRAME_SEEN, .seq = 9, .packets = 991, .bytes = 3999001460, .ce = 3},
    };
    vec_packet(&(struct packet){
        .name = "ctrl-late",
        .note = "A SEEN that may have waited 250 us for the responder, after its LATE.",
        .keys = &k128,
        .from_responder = true,
        .hdr = {.kind = SMT_KIND_CTRL},
        .record_no = 0x1236,
        .frames = late,
        .n_frames = SMT_ARRAY_LEN(late),
    });
    static const struct smt_frame acks[] = {
        {.type = SMT_FRAME_ACKS, .id = 5, .bitmap = 0x8000000000000201},
        {.type = SMT_FRAME_ACKS, .id = SMT_ID_ROLE | 64, .bitmap = 7},
        {.type = SMT_FRAME_ACKS, .id = 9},
    };
    vec_packet(&(struct packet){
        .name = "ctrl-acks",
        .note = "ACKS with bitmaps of eight bytes, of one and of none, from the responder.",
        .keys = &k128,
        .from_responder = true,
        .hdr = {.kind = SMT_KIND_CTRL},
        .record_no = 0x1235,
        .frames = acks,
        .n_frames = SMT_ARRAY_LEN(acks),
    });
    static const uint8_t skip[] = {0x90, 3, 1, 2, 3, 0x1d, 0, 0, 0};
    vec_packet(&(struct packet){
        .name = "ctrl-skipped-frame",
        .note = "A type from 0x80 on is skipped; REKEY and three PADs follow it.",
        .keys = &k128,
        .hdr = {.kind = SMT_KIND_CTRL},
        .record_no = 1,
        .raw_frames = skip,
        .raw_frames_len = sizeof(skip),
        .raw_frames_lines = "frame.0=SKIPPED type=90 bytes=010203\n"
                            "frame.1=REKEY\nframe.2=PAD\nframe.3=PAD\nframe.4=PAD\n",
    });
}

static void handshake_section(void)
{
    uint8_t body[SMT_COOKIE_LEN + 100];
    fill(body, SMT_COOKIE_LEN, 0xc0);
    fill(body + SMT_COOKIE_LEN, 100, 0x16);
    struct smt_hdr h = {
        .sport = VEC_I_PORT,
        .dport = VEC_R_PORT,
        .kind = SMT_KIND_HANDSHAKE,
        .epoch = 1,
        .source_id = vec_initiator_id,
        .tls_len = 100,
    };
    vec_plain("handshake-first",
              "The first packet: receiver's id 0, 1,024 bytes. (TLS bytes: a pattern.)", &h,
              body + SMT_COOKIE_LEN, 100, SMT_BASE_PACKET);
    h.cookie_len = SMT_COOKIE_LEN;
    vec_plain("handshake-cookie", "The same with the cookie of retry.", &h, body, sizeof(body),
              SMT_BASE_PACKET);
    h = (struct smt_hdr){
        .sport = VEC_R_PORT,
        .dport = VEC_I_PORT,
        .kind = SMT_KIND_HANDSHAKE,
        .session_id = vec_initiator_id,
        .source_id = vec_responder_id,
        .offset = 900,
        .message_len = 100,
        .tls_len = 40,
    };
    vec_plain("handshake-answer", "From the responder: offset 900, all 100 bytes acknowledged.", &h,
              body, 40, 0);
    h = (struct smt_hdr){.sport = VEC_R_PORT,
                         .dport = VEC_I_PORT,
                         .kind = SMT_KIND_RETRY,
                         .session_id = vec_initiator_id};
    vec_plain("retry", "RETRY.", &h, body, SMT_COOKIE_LEN, 0);
    h.kind = SMT_KIND_NO_SESSION;
    h.session_id = vec_responder_id;
    vec_plain("no-session", "NO_SESSION: the id that is not known.", &h, NULL, 0, 0);
    h.kind = SMT_KIND_VERSION;
    h.session_id = vec_initiator_id;
    vec_plain("version", "VERSION: 2 and 3.", &h, (const uint8_t[]){2, 2, 3}, 3, 0);
}

int main(void)
{
    printf("# Vectors of profile smt2 (docs/wire.md). Written by gen_smt2.c, checked by\n"
           "# decode_smt2.py. Ids and tokens are hex, other numbers decimal.\n");
    keys_section();
    params_section();
    rpc_section();
    long_message_section();
    burst_section();
    slices_section();
    ctrl_section();
    handshake_section();
    vec_check(fflush(stdout) == 0 && !ferror(stdout), "cannot write");
    return 0;
}
