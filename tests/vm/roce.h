/* RoCE v2 UD SEND frames made by hand, byte by byte, and put on a wire below all protocols. */
#ifndef SMT_TESTS_VM_ROCE_H
#define SMT_TESTS_VM_ROCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ROCE_IP_AT = 14,
    ROCE_UDP_AT = 34,
    ROCE_BTH_AT = 42,
    ROCE_DETH_AT = 54,
    ROCE_MAX_FRAME = 9000,
    ROCE_ICRC_LEN = 4,
};

/* What a frame says; all in host order. */
struct roce_frame {
    uint8_t from_mac[6], to_mac[6];
    uint32_t from_ip, to_ip;
    uint32_t qpn, qkey, from_qpn, psn;
    bool has_imm;
    uint32_t imm;
    const uint8_t *payload;
    size_t payload_len;
};

/* Writes the frame with its checksums; returns its length. */
size_t roce_build(const struct roce_frame *frame, uint8_t out[ROCE_MAX_FRAME]);

/* The invariant checksum of a frame whose IP and UDP headers are in place, over `len` bytes that
 * end before it. */
uint32_t roce_icrc(const uint8_t *frame, size_t len);

/* Writes the IP header's checksum. */
void roce_ip_checksum(uint8_t *frame);

/* A raw socket that sends from a network interface; aborts the program without one. */
struct roce_wire {
    int fd, ifindex;
};

void roce_wire_open(struct roce_wire *wire, const char *ifname);
void roce_wire_send(const struct roce_wire *wire, const uint8_t *frame, size_t len);
void roce_mac(const char *ifname, uint8_t mac[6]);

/* A counter of an RDMA device's port 1 in the kernel, such as "rcvd_pkts". */
uint64_t roce_counter(const char *device, const char *name);

#endif
