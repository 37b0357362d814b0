/* What smt_pcap does with the packets of a capture: an input is a run of packets, each behind its
 * length and IPv4 identification (16 bits each, big-endian), and its first byte chooses the
 * profile. Messages are whole only when all their bytes were seen. */
#include "fuzz.h"

#include <string.h>

#include "base/bytes.h"
#include "pcap/inspect.h"

static const struct smt_inspect_key client = {
    .key = {0x8d, 0xd2, 0x30, 0xa7, 0x7a, 0x05, 0xeb, 0x71, 0x15, 0x91, 0x29, 0xbc, 0xbc, 0xf6,
            0x42, 0x30},
    .salt = {0x87, 0xc6, 0x35, 0xc8},
    .is_set = true,
};

static void messages_check(const struct smt_inspect *in, const struct smt_homa_format *f)
{
    const struct smt_inspect_message *m = smt_inspect_messages(in);
    for (; m != NULL; m = m->next) {
        FUZZ_CHECK(m->len > 0 && m->len <= SMT_HOMA_MAX_MESSAGE && m->got <= m->len);
        FUZZ_CHECK(!m->is_complete || (m->got == m->len && !m->is_opaque));
        FUZZ_CHECK(f->records || m->n_records == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct smt_homa_format *const formats[] = {&smt_homa_main, &smt_homa_6_1,
                                                            &smt_homa_smt1, NULL};
    if (size == 0)
        return 0;
    struct smt_inspect_config config = {.format = formats[data[0] % 4], .mtu = 1500};
    config.client = client;
    struct smt_inspect *in;
    FUZZ_CHECK(smt_inspect_new(&config, &in) == 0);
    size_t at = 1;
    for (uint64_t number = 1; size - at >= 4; number++) {
        size_t len = smt_get_be16(data + at);
        if (len > size - at - 4)
            len = size - at - 4;
        uint8_t *exact = malloc(len > 0 ? len : 1);
        FUZZ_CHECK(exact != NULL);
        memcpy(exact, data + at + 4, len);
        struct smt_cap_packet p = {
            .number = number,
            .kind = SMT_CAP_IP,
            .from = {.ip = {[10] = 0xff, [11] = 0xff, [15] = 1}},
            .to = {.ip = {[10] = 0xff, [11] = 0xff, [15] = 2}},
            .protocol = config.format != NULL ? config.format->ip_protocol : 254,
            .ip_id = smt_get_be16(data + at + 2),
            .dont_fragment = true,
            .data = exact,
            .len = (uint32_t)len,
        };
        struct smt_inspect_line line;
        int rc = smt_inspect_packet(in, &p, &line);
        FUZZ_CHECK(rc == 0 || rc == SMT_ENOMEM);
        FUZZ_CHECK(strlen(line.text) < sizeof(line.text) && line.text[0] != '\0');
        free(exact);
        at += 4 + len;
    }
    if (config.format != NULL)
        messages_check(in, config.format);
    smt_inspect_free(in);
    return 0;
}
