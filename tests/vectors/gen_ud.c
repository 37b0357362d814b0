/* Writes tests/vectors/ud.txt to standard output: messages of the resolve exchange (docs/wire.md,
 * 10.2) made by the library's code, each with the fields that went in. test_ud.py, which shares
 * nothing with this code, takes them apart and compares. */
#include <stdio.h>
#include <string.h>

#include "dev/ud_resolve.h"

static void bytes_print(const char *key, const uint8_t *p, size_t len)
{
    printf("%s=", key);
    for (size_t i = 0; i < len; i++)
        printf("%02x", p[i]);
    printf("\n");
}

static void message_print(const char *name, const struct smt_ud_msg *m)
{
    uint8_t bytes[SMT_UD_MSG_LEN];
    smt_ud_msg_build(m, bytes);
    printf("\n[%s]\nkind=%u\nlink=%u\nport=%u\nlid=%u\nmtu=%u\nqpn=%u\n", name, m->kind, m->link,
           m->port, m->lid, m->mtu, m->qpn);
    printf("qkey=%08x\n", m->qkey);
    bytes_print("gid", m->gid, sizeof(m->gid));
    printf("nonce=%016llx\necho=%016llx\n", (unsigned long long)m->nonce,
           (unsigned long long)m->echo);
    printf("wanted=%u\nnumber=%u\nshare=%u\n", m->wanted, m->number, m->share);
    bytes_print("message", bytes, sizeof(bytes));
}

int main(void)
{
    static const struct smt_ud_msg asker = {
        .kind = SMT_UD_QUERY,
        .link = SMT_UD_LINK_ROCE,
        .port = 49153,
        .mtu = 4096,
        .qpn = 0x11,
        .qkey = 0x1a2b3c4d,
        .gid = {[10] = 0xff, [11] = 0xff, [12] = 192, [13] = 0, [14] = 2, [15] = 1},
        .nonce = 0x0102030405060708,
    };
    static const struct smt_ud_msg answer = {
        .kind = SMT_UD_ANSWER,
        .link = SMT_UD_LINK_ROCE,
        .port = 18515,
        .mtu = 1024,
        .qpn = 0xabcdef,
        .qkey = 0x7fffffff,
        .gid = {[10] = 0xff, [11] = 0xff, [12] = 192, [13] = 0, [14] = 2, [15] = 2},
        .nonce = 0xf1f2f3f4f5f6f7f8,
        .echo = 0x0102030405060708,
    };
    struct smt_ud_msg ack = asker, ib = answer;
    ack.kind = SMT_UD_ACK;
    ack.echo = answer.nonce;
    ib.link = SMT_UD_LINK_IB;
    ib.lid = 0x1234;
    static const uint8_t gid[16] = {0xfe, 0x80, [8] = 0x02, [9] = 0xc9, [15] = 0x07};
    memcpy(ib.gid, gid, sizeof(ib.gid));
    printf("# Messages of the resolve exchange (docs/wire.md, 10.2). Written by gen_ud.c, checked "
           "by\n# test_ud.py. Q_Keys, GIDs and nonces are hex, other numbers decimal.\n");
    message_print("query", &asker);
    message_print("answer", &answer);
    message_print("ack", &ack);
    message_print("answer-infiniband", &ib);
    struct smt_ud_msg third = asker, of_third = answer;
    third.wanted = 2;
    of_third.share = 4;
    of_third.number = 2;
    of_third.nonce = smt_ud_nonce_for(answer.nonce, of_third.number, of_third.share);
    message_print("query-third", &third);
    message_print("answer-third-of-four", &of_third);
    return 0;
}
