/* The same records sealed by the NIC (the model) and by the CPU: the same frames to the last bit,
 * and those of frames.txt. One process in a network of its own, where everything that frames hold
 * is fixed: MACs, addresses, the neighbour.
 *
 * usage: test_mlx5_frames FRAMES.TXT [--write] */
#include <openssl/evp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/seal.h"
#include "dev/dev.h"

enum {
    HDR = 44,
    MAX_RECORD = 16413,
    MAX_FRAMES = 64,
    MAX_FRAME = 2048,
    PACKET = 1472
}; /* what UDP carries on an Ethernet of 1,500 */

struct frames {
    uint32_t n, len[MAX_FRAMES];
    uint8_t bytes[MAX_FRAMES][MAX_FRAME];
};

static const struct {
    const char *name;
    uint32_t key_len, plain_len, slice_len; /* slice 0: as much as a packet holds */
    uint64_t record_no;
    uint8_t prio;
} cases[] = {
    {"one byte", 16, 1, 0, 0, 0},
    {"one packet", 16, 1000, 0, 1, 7},
    {"one packet, full", 16, PACKET - HDR - 29, 0, 2, 3},
    {"one byte more", 16, PACKET - HDR - 28, 0, 3, 3},
    {"whole record", 16, 16384, 0, 0x8000000100000004, 1},
    {"small slices", 16, 3000, 100, 0x0200000100000005, 2},
    {"one packet, 256", 32, 700, 0, 6, 4},
    {"whole record, 256", 32, 16384, 0, 0xfe00000100000007, 5},
    {"the tag alone behind", 32, PACKET - HDR - 13, 0, 8, 6},
};

static const uint8_t salt[4] = {0x87, 0xc6, 0x35, 0xc8};
static char capture[96];
static long capture_at = 24;

static void fail(const char *what, const char *name)
{
    printf("%s: %s\n", name, what);
    exit(1);
}

static void command(const char *text)
{
    if (system(text) != 0)
        fail("did not work", text);
}

static void network_make(char *dir)
{
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
        printf("no network namespace of our own may be made\n");
        exit(77);
    }
    command("ip link add mx0 address 02:00:00:00:00:01 type veth peer name mx1");
    command("ip addr add 10.98.0.1/24 dev mx0 && ip link set mx0 up && ip link set mx1 up");
    command("ip neigh add 10.98.0.2 lladdr 02:00:00:00:00:02 dev mx0 nud permanent");
    if (mkdtemp(dir) == NULL)
        fail("cannot be made", dir);
    char knobs[256];
    snprintf(capture, sizeof(capture), "%s/pcap", dir);
    snprintf(knobs, sizeof(knobs), "full,dir=%s,netdev=mx0,pcap=%s", dir, capture);
    setenv("MLX5_MODEL", knobs, 1);
}

/* What the model wrote into its capture since the last call. */
static void frames_read(struct frames *out)
{
    uint32_t head[4];
    out->n = 0;
    FILE *f = fopen(capture, "r");
    if (f == NULL)
        return;
    fseek(f, capture_at, SEEK_SET);
    while (out->n < MAX_FRAMES && fread(head, sizeof(head), 1, f) == 1 && head[2] <= MAX_FRAME &&
           fread(out->bytes[out->n], head[2], 1, f) == 1)
        out->len[out->n++] = head[2];
    capture_at = ftell(f);
    fclose(f);
}

static void header_write(uint8_t *h, unsigned i, uint32_t record_len, uint32_t slice_len)
{
    memset(h, 0, HDR);
    h[0] = h[2] = 0x48;
    h[12] = 0xb0;
    h[13] = 0x10;
    h[14] = 2;
    h[35] = (uint8_t)i;
    h[40] = (uint8_t)(record_len >> 8);
    h[41] = (uint8_t)record_len;
    h[42] = (uint8_t)(slice_len >> 8);
    h[43] = (uint8_t)slice_len;
}

static void record_write(uint8_t *r, uint64_t number, uint32_t plain_len)
{
    uint32_t body = 8 + plain_len + 16, x = (uint32_t)number + plain_len;
    memcpy(r, (uint8_t[]){0x17, 3, 3, (uint8_t)(body >> 8), (uint8_t)body}, 5);
    for (int i = 0; i < 8; i++)
        r[5 + i] = (uint8_t)(number >> (56 - 8 * i));
    for (uint32_t i = 0; i < plain_len; i++)
        r[13 + i] = (uint8_t)((x = x * 1103515245 + 12345) >> 16);
}

static void record_seal(uint8_t *r, const uint8_t *key, uint32_t key_len, uint32_t plain_len)
{
    uint8_t nonce[12], aad[13];
    int n;
    memcpy(nonce, salt, 4);
    memcpy(nonce + 4, r + 5, 8);
    memcpy(aad, r + 5, 8);
    memcpy(aad + 8, r, 3);
    aad[11] = (uint8_t)(plain_len >> 8);
    aad[12] = (uint8_t)plain_len;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    const EVP_CIPHER *cipher = key_len == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
    if (EVP_EncryptInit_ex(c, cipher, NULL, key, nonce) != 1 ||
        EVP_EncryptUpdate(c, NULL, &n, aad, 13) != 1 ||
        EVP_EncryptUpdate(c, r + 13, &n, r + 13, (int)plain_len) != 1 ||
        EVP_EncryptFinal_ex(c, r + 13 + plain_len, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, 16, r + 13 + plain_len) != 1)
        fail("OpenSSL does not seal", "record");
    EVP_CIPHER_CTX_free(c);
}

static void flush(struct smt_dev *dev)
{
    static struct smt_pkt pkts[SMT_DEV_RX_BATCH];
    for (unsigned i = 0; i < 300; i++) {
        if (dev->ops->tx_flush(dev) < 0 && i == 299)
            fail("does not flush", "device");
        if (dev->ops->rx(dev, pkts, SMT_DEV_RX_BATCH) < 0)
            fail("died", "device");
    }
}

static void sent_by(struct smt_dev *dev, unsigned i, bool by_nic, struct frames *out)
{
    const struct smt_addr to = {.ip = {[10] = 0xff, [11] = 0xff, 10, 98, 0, 2}, .port = 18515};
    uint8_t key[32], *at = NULL;
    uint32_t record_len = cases[i].plain_len + 29;
    uint32_t most = PACKET - HDR;
    uint32_t slice_len = cases[i].slice_len != 0 ? cases[i].slice_len
                         : record_len <= most    ? record_len
                                                 : most;
    for (unsigned k = 0; k < 32; k++)
        key[k] = (uint8_t)(k * 11 + i);
    uint64_t ctx = 0;
    const struct smt_sealer *s = dev->ops->sealer(dev);
    if (s == NULL)
        fail(dev->ops->why_no_seal(dev), "no sealer");
    if (by_nic) {
        struct smt_seal_key k = {.key = key, .key_len = cases[i].key_len, .salt = salt};
        struct smt_seal_record r = {.to = &to,
                                    .record_no = cases[i].record_no,
                                    .hdr_len = HDR,
                                    .record_len = record_len,
                                    .slice_len = slice_len,
                                    .prio = cases[i].prio};
        if (s->open(s->arg, &k, &ctx) != 0 || s->reserve(s->arg, ctx, &r, &at) != 0)
            fail("the NIC takes no record", cases[i].name);
    } else {
        at = dev->ops->tx_burst(dev, &to, HDR, record_len, slice_len, cases[i].prio);
        if (at == NULL)
            fail("the device takes no burst", cases[i].name);
    }
    header_write(at, i, record_len, slice_len);
    record_write(at + HDR, cases[i].record_no, cases[i].plain_len);
    if (!by_nic)
        record_seal(at + HDR, key, cases[i].key_len, cases[i].plain_len);
    flush(dev);
    if (by_nic)
        s->close(s->arg, ctx);
    frames_read(out);
}

static void digest_text(const struct frames *f, char *out)
{
    uint8_t sum[32];
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    EVP_DigestInit_ex(c, EVP_sha256(), NULL);
    for (uint32_t i = 0; i < f->n; i++)
        EVP_DigestUpdate(c, f->bytes[i], f->len[i]);
    EVP_DigestFinal_ex(c, sum, NULL);
    EVP_MD_CTX_free(c);
    for (unsigned i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", sum[i]);
}

static void compare(unsigned i, struct smt_dev *dev, FILE *golden, bool write)
{
    static struct frames nic, cpu;
    sent_by(dev, i, true, &nic);
    sent_by(dev, i, false, &cpu);
    if (nic.n == 0 || nic.n != cpu.n)
        fail("frames are missing", cases[i].name);
    for (uint32_t k = 0; k < nic.n; k++) {
        if (nic.len[k] != cpu.len[k] || memcmp(nic.bytes[k], cpu.bytes[k], nic.len[k]) != 0)
            fail("NIC and CPU differ", cases[i].name);
    }
    char sum[65], line[160], want[160];
    digest_text(&nic, sum);
    snprintf(want, sizeof(want), "%s: %u frames, %s\n", cases[i].name, nic.n, sum);
    if (write)
        fputs(want, golden);
    else if (fgets(line, sizeof(line), golden) == NULL || strcmp(line, want) != 0)
        fail(want, "not as committed");
}

int main(int argc, char **argv)
{
    char dir[] = "/dev/shm/mlx5-frames.XXXXXX", text[256];
    if (argc < 2)
        return 2;
    bool write = argc > 2 && strcmp(argv[2], "--write") == 0;
    FILE *golden = fopen(argv[1], write ? "w" : "r");
    if (golden == NULL)
        fail("cannot be opened", argv[1]);
    network_make(dir);
    struct smt_dev_config config = {.spec = "mlx5:,crypto=nic,burst=1",
                                    .bind_host = "10.98.0.1",
                                    .port = 18515,
                                    .error_text = text,
                                    .error_text_len = sizeof(text)};
    struct smt_dev *dev;
    if (smt_dev_open(&config, &dev) != 0)
        fail(text, "device");
    for (unsigned i = 0; i < SMT_ARRAY_LEN(cases); i++)
        compare(i, dev, golden, write);
    dev->ops->close(dev);
    fclose(golden);
    snprintf(text, sizeof(text), "rm -r %s", dir);
    command(text);
    printf("%zu records, NIC and CPU alike\n", SMT_ARRAY_LEN(cases));
    return 0;
}
