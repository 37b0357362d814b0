/* A small user of an mlx5 device: what the tests of the model drive it with. Written from the same
 * facts as the model and from verbs.h, sharing nothing with it but the table of fields. */
#ifndef MLX5_MODEL_DRIVE_H
#define MLX5_MODEL_DRIVE_H

#include <infiniband/mlx5dv.h>
#include <infiniband/verbs.h>

#include "fields.h"

enum { DRIVE_BUF = 1 << 20, DRIVE_RECVS = 256, DRIVE_FRAME = 2048, DRIVE_RECORD_MAX = 16413 };

struct drive {
    struct ibv_context *ctx;
    struct ibv_pd *pd;
    uint32_t pdn;
    struct ibv_comp_channel *channel;
    struct ibv_cq *tx_cq, *rx_cq;
    struct ibv_qp *qp;
    struct ibv_mr *mr;
    uint8_t *mem; /* first half to send from, second to receive into */
    uint8_t mac[6];
    struct ibv_flow *flow;
    struct mlx5dv_devx_obj *td, *tis, *dek;
    uint32_t tdn, tisn, dek_id, key_len;
    uint16_t pi;
    uint64_t next_wr;
};

/* Opens device number `index` with DevX, up to a queue pair in RTS. */
int drive_open(struct drive *d, unsigned index);
int drive_qp(struct drive *d);
void drive_close(struct drive *d);
int drive_recvs(struct drive *d);
int drive_flow_protocol(struct drive *d, uint8_t protocol);
int drive_flow_udp(struct drive *d, uint16_t port);

/* A frame that came: its bytes, good until 255 more have come, or NULL. */
const uint8_t *drive_frame(struct drive *d, uint32_t *len);

/* Commands as bytes: the tests change single bits of them. */
uint32_t drive_cmd_td(uint8_t *in);
uint32_t drive_cmd_tis(const struct drive *d, uint8_t *in);
uint32_t drive_cmd_dek(const struct drive *d, const uint8_t *key, uint32_t key_len, uint8_t *in);
int drive_objects(struct drive *d, const uint8_t *key, uint32_t key_len);

/* WQEs as bytes. */
uint32_t drive_wqe_static(const struct drive *d, uint8_t *b, uint32_t version, const uint8_t *iv,
                          uint64_t record, uint32_t fence);
uint32_t drive_wqe_progress(const struct drive *d, uint8_t *b, uint32_t fence);
uint32_t drive_wqe_nop(const struct drive *d, uint8_t *b, uint32_t fence);
uint32_t drive_wqe_lso(const struct drive *d, uint8_t *b, const uint8_t *header,
                       uint32_t header_len, uint32_t mss, uint64_t addr, uint32_t len);
uint32_t drive_wqe_send(const struct drive *d, uint8_t *b, const uint8_t *header,
                        uint32_t header_len, uint64_t addr, uint32_t len);
uint32_t drive_wqe_dump(const struct drive *d, uint8_t *b, uint64_t addr, uint32_t len,
                        uint32_t fence);

/* Posts some WQEs with one doorbell; `n` of 1 KB each. */
int drive_post(struct drive *d, uint8_t (*wqes)[1024], unsigned n);
/* One completion of the send queue: its status, or -1 when none comes. */
int drive_polled(struct drive *d, uint64_t *wr_id);

/* Ethernet, IPv4 or IPv6 and 44 bytes that begin like a DATA packet's clear header. */
uint32_t drive_header(const struct drive *from, const struct drive *to, int version,
                      uint8_t protocol, uint8_t *h);
/* "17 03 03 length number" before `len` bytes of plaintext, room for the tag behind. */
uint32_t drive_record(uint8_t *b, uint64_t number, uint32_t len);

#endif
