/* Devices: listed, opened, asked; their asynchronous events. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "model.h"

/* Macros of verbs.h that lead through inline functions. */
#undef ibv_query_port
#undef ibv_get_device_list

struct mm_dev mm_devs[MM_MAX_DEVICES];
struct mm_ctx *mm_contexts;

static struct mm_dev *device_of(const char *call, struct ibv_device *ibv)
{
    for (unsigned i = 0; i < mm_config()->devices; i++) {
        if (ibv == &mm_devs[i].ibv)
            return &mm_devs[i];
    }
    mm_die(call, "device: not one of the list");
}

struct mm_ctx *mm_ctx_of(const char *call, struct ibv_context *ctx)
{
    struct mm_ctx *c = MM_CONTAINER(ctx, struct mm_ctx, verbs.context);
    if (ctx == NULL || c->kind != MM_CONTEXT)
        mm_die(call, "context: none, or closed");
    return c;
}

struct ibv_device **ibv_get_device_list(int *num_devices)
{
    mm_enter();
    unsigned n = (unsigned)mm_config()->devices;
    struct ibv_device **list = calloc(n + 1, sizeof(struct ibv_device *));
    if (list == NULL)
        mm_die("model", "out of memory");
    for (unsigned i = 0; i < n; i++) {
        /* Another thread may be reading what one is called that is in use. */
        if (!mm_devs[i].is_ready)
            mm_devs[i].index = i;
        mm_identity_fill(&mm_devs[i]);
        list[i] = &mm_devs[i].ibv;
    }
    if (num_devices != NULL)
        *num_devices = (int)n;
    mm_leave();
    return list;
}

void ibv_free_device_list(struct ibv_device **list)
{
    free(list);
}

const char *ibv_get_device_name(struct ibv_device *device)
{
    return device_of("ibv_get_device_name", device)->ibv.name;
}

__be64 ibv_get_device_guid(struct ibv_device *device)
{
    return htobe64(0x0200000000350000 + device_of("ibv_get_device_guid", device)->index);
}

int ibv_get_device_index(struct ibv_device *device)
{
    return (int)device_of("ibv_get_device_index", device)->index;
}

bool mlx5dv_is_supported(struct ibv_device *device)
{
    (void)device_of("mlx5dv_is_supported", device);
    return mm_config()->mlx5 != 0;
}

static int op_query_port(struct ibv_context *ctx, uint8_t port, struct ibv_port_attr *attr,
                         size_t attr_len)
{
    mm_enter();
    struct mm_dev *dev = mm_ctx_of("ibv_query_port", ctx)->dev;
    int r = port != 1 ? EINVAL : dev->is_gone ? EIO : 0;
    if (r == 0) {
        mm_pump(dev);
        enum ibv_mtu mtu = dev->mtu >= 4192 ? IBV_MTU_4096 : IBV_MTU_1024;
        struct ibv_port_attr a = {.state = dev->is_up ? IBV_PORT_ACTIVE : IBV_PORT_DOWN,
                                  .max_mtu = IBV_MTU_4096,
                                  .active_mtu = mtu,
                                  .gid_tbl_len = MM_MAX_GIDS,
                                  .port_cap_flags = IBV_PORT_IP_BASED_GIDS,
                                  .max_msg_sz = 1u << 30,
                                  .pkey_tbl_len = 1,
                                  .max_vl_num = 1,
                                  .active_width = 2,
                                  .active_speed = 32,
                                  .phys_state = dev->is_up ? 5 : 3,
                                  .link_layer = mm_config()->ib ? IBV_LINK_LAYER_INFINIBAND
                                                                : IBV_LINK_LAYER_ETHERNET};
        memcpy(attr, &a, attr_len < sizeof(a) ? attr_len : sizeof(a));
    }
    mm_leave();
    return r;
}

/* Where inline callers go that know no extended context: there are none. */
int ibv_query_port(struct ibv_context *ctx, uint8_t port, struct _compat_ibv_port_attr *attr)
{
    (void)ctx, (void)port, (void)attr;
    mm_die("ibv_query_port", "the context says that it is not extended");
}

int ibv_query_device(struct ibv_context *ctx, struct ibv_device_attr *attr)
{
    mm_enter();
    struct mm_dev *dev = mm_ctx_of("ibv_query_device", ctx)->dev;
    int r = dev->is_gone ? EIO : 0;
    if (r == 0)
        *attr = (struct ibv_device_attr){.fw_ver = "22.41.1000",
                                         .node_guid = ibv_get_device_guid(&dev->ibv),
                                         .sys_image_guid = ibv_get_device_guid(&dev->ibv),
                                         .max_mr_size = UINT64_MAX,
                                         .page_size_cap = 0xfffff000,
                                         .vendor_id = 0x02c9,
                                         .vendor_part_id = 4125,
                                         .max_qp = MM_MAX_QPS,
                                         .max_qp_wr = 32768,
                                         .device_cap_flags = IBV_DEVICE_RAW_IP_CSUM |
                                                             IBV_DEVICE_PORT_ACTIVE_EVENT |
                                                             IBV_DEVICE_MANAGED_FLOW_STEERING,
                                         .max_sge = 30,
                                         .max_cq = 1 << 16,
                                         .max_cqe = 1 << 22,
                                         .max_mr = 1 << 16,
                                         .max_pd = 1024,
                                         .max_pkeys = 1,
                                         .phys_port_cnt = 1};
    mm_leave();
    return r;
}

static int op_query_device_ex(struct ibv_context *ctx, const struct ibv_query_device_ex_input *in,
                              struct ibv_device_attr_ex *attr, size_t attr_len)
{
    struct ibv_device_attr_ex a = {
        .raw_packet_caps = IBV_RAW_PACKET_CAP_IP_CSUM,
        .phys_port_cnt_ex = 1,
        .max_wq_type_rq = 1 << 16,
    };
    if (in != NULL && in->comp_mask != 0)
        return EINVAL;
    int r = ibv_query_device(ctx, &a.orig_attr);
    if (r != 0)
        return r;
    if (mm_config()->log_max_lso != 0)
        a.tso_caps = (struct ibv_tso_caps){.max_tso = 1u << mm_config()->log_max_lso,
                                           .supported_qpts = 1u << IBV_QPT_RAW_PACKET};
    memset(attr, 0, attr_len);
    memcpy(attr, &a, attr_len < sizeof(a) ? attr_len : sizeof(a));
    return 0;
}

int mlx5dv_query_device(struct ibv_context *ctx, struct mlx5dv_context *out)
{
    (void)mm_ctx_of("mlx5dv_query_device", ctx);
    uint64_t asked = out->comp_mask;
    *out = (struct mlx5dv_context){
        .version = 0, .flags = MLX5DV_CONTEXT_FLAGS_CQE_V1 | MLX5DV_CONTEXT_FLAGS_ENHANCED_MPW};
    out->comp_mask = asked & (MLX5DV_CONTEXT_MASK_DYN_BFREGS | MLX5DV_CONTEXT_MASK_NUM_LAG_PORTS);
    if (asked & MLX5DV_CONTEXT_MASK_DYN_BFREGS)
        out->max_dynamic_bfregs = 1024;
    if (asked & MLX5DV_CONTEXT_MASK_NUM_LAG_PORTS)
        out->num_lag_ports = 1;
    return 0;
}

static struct ibv_context *context_new(struct ibv_device *device, bool has_devx)
{
    mm_enter();
    struct mm_dev *dev = device_of("ibv_open_device", device);
    struct ibv_context *out = NULL;
    if (mm_config()->open_error != 0 || dev->is_gone) {
        errno = dev->is_gone ? EIO : (int)mm_config()->open_error;
    } else {
        struct mm_ctx *c = calloc(1, sizeof(*c));
        if (c == NULL)
            mm_die("model", "out of memory");
        c->kind = MM_CONTEXT;
        c->dev = dev;
        c->has_devx = has_devx;
        c->verbs.sz = sizeof(c->verbs);
        c->verbs.query_port = op_query_port;
        c->verbs.query_device_ex = op_query_device_ex;
        c->verbs.ibv_create_flow = mm_op_create_flow;
        c->verbs.ibv_destroy_flow = mm_op_destroy_flow;
        out = &c->verbs.context;
        out->device = device;
        out->abi_compat = __VERBS_ABI_IS_EXTENDED;
        out->num_comp_vectors = 1;
        out->cmd_fd = -1;
        out->async_fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
        if (out->async_fd < 0)
            mm_die("model", "eventfd: %s", strerror(errno));
        out->ops = (struct ibv_context_ops){.poll_cq = mm_op_poll_cq,
                                            .req_notify_cq = mm_op_req_notify_cq,
                                            .post_send = mm_op_post_send,
                                            .post_recv = mm_op_post_recv};
        c->next = mm_contexts;
        mm_contexts = c;
        if (dev->n_open++ == 0) {
            mm_net_open(dev);
            mm_inject_open(dev);
        }
    }
    mm_leave();
    return out;
}

struct ibv_context *ibv_open_device(struct ibv_device *device)
{
    return context_new(device, mm_config()->devx != 0);
}

struct ibv_context *mlx5dv_open_device(struct ibv_device *device, struct mlx5dv_context_attr *attr)
{
    if (attr->comp_mask != 0 || attr->flags & ~(uint32_t)MLX5DV_CONTEXT_FLAGS_DEVX) {
        mm_complain("mlx5dv_open_device.attr", "flags 0x%x", attr->flags);
        errno = EINVAL;
        return NULL;
    }
    bool wanted = attr->flags & MLX5DV_CONTEXT_FLAGS_DEVX;
    if (wanted && mm_config()->devx == 0) {
        errno = EOPNOTSUPP;
        return NULL;
    }
    return context_new(device, wanted);
}

int ibv_close_device(struct ibv_context *ctx)
{
    mm_enter();
    struct mm_ctx *c = mm_ctx_of("ibv_close_device", ctx);
    if (c->n_pds + c->n_cqs + c->n_channels + c->n_devx > 0)
        mm_complain("context", "closed with %u domains, %u CQs, %u channels, %u DevX objects",
                    c->n_pds, c->n_cqs, c->n_channels, c->n_devx);
    if (c->n_unacked > 0)
        mm_complain("context", "closed with %u asynchronous events not acknowledged", c->n_unacked);
    close(ctx->async_fd);
    struct mm_ctx **at = &mm_contexts;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    c->kind = MM_DEAD;
    mm_bury(c);
    if (--c->dev->n_open == 0)
        mm_net_close(c->dev);
    mm_leave();
    return 0;
}

ssize_t _ibv_query_gid_table(struct ibv_context *ctx, struct ibv_gid_entry *entries,
                             size_t max_entries, uint32_t flags, size_t entry_size)
{
    mm_enter();
    struct mm_dev *dev = mm_ctx_of("ibv_query_gid_table", ctx)->dev;
    mm_identity_fill(dev);
    ssize_t n = 0;
    if (flags != 0 || entry_size != sizeof(*entries))
        n = -EINVAL;
    for (unsigned i = 0; n >= 0 && i < dev->n_gids; i++) {
        if ((size_t)n == max_entries)
            n = -EINVAL;
        else
            entries[n++] = dev->gids[i];
    }
    mm_leave();
    return n;
}

int _ibv_query_gid_ex(struct ibv_context *ctx, uint32_t port, uint32_t index,
                      struct ibv_gid_entry *entry, uint32_t flags, size_t entry_size)
{
    mm_enter();
    struct mm_dev *dev = mm_ctx_of("ibv_query_gid_ex", ctx)->dev;
    mm_identity_fill(dev);
    int r = flags != 0 || entry_size != sizeof(*entry) || port != 1 || index >= MM_MAX_GIDS ? EINVAL
                                                                                            : 0;
    if (r == 0 && index >= dev->n_gids)
        r = ENODATA;
    if (r == 0)
        *entry = dev->gids[index];
    mm_leave();
    return r;
}

int ibv_query_gid(struct ibv_context *ctx, uint8_t port, int index, union ibv_gid *gid)
{
    struct ibv_gid_entry e = {0};
    int r = _ibv_query_gid_ex(ctx, port, (uint32_t)index, &e, 0, sizeof(e));
    if (r != 0 && r != ENODATA) {
        errno = r;
        return -1;
    }
    *gid = e.gid;
    return 0;
}

int ibv_query_pkey(struct ibv_context *ctx, uint8_t port, int index, __be16 *pkey)
{
    (void)mm_ctx_of("ibv_query_pkey", ctx);
    if (port != 1 || index != 0) {
        errno = EINVAL;
        return -1;
    }
    *pkey = 0xffff;
    return 0;
}

int ibv_fork_init(void)
{
    return 0;
}

enum ibv_fork_status ibv_is_fork_initialized(void)
{
    return IBV_FORK_UNNEEDED;
}

void mm_async_push(struct mm_dev *dev, struct ibv_async_event event)
{
    for (struct mm_ctx *c = mm_contexts; c != NULL; c = c->next) {
        if (c->dev != dev)
            continue;
        if (event.event_type == IBV_EVENT_QP_FATAL &&
            event.element.qp->context != &c->verbs.context)
            continue;
        if (c->n_events == MM_MAX_ASYNC) {
            mm_complain("asynchronous events", "%d are not read", MM_MAX_ASYNC);
            return;
        }
        c->events[(c->first_event + c->n_events++) % MM_MAX_ASYNC] = event;
        if (eventfd_write(c->verbs.context.async_fd, 1) < 0)
            mm_die("model", "eventfd: %s", strerror(errno));
    }
}

int ibv_get_async_event(struct ibv_context *ctx, struct ibv_async_event *event)
{
    mm_enter();
    struct mm_ctx *c = mm_ctx_of("ibv_get_async_event", ctx);
    mm_pump(c->dev);
    mm_leave();
    /* Blocks as the kernel's descriptor does, unless the user made it non-blocking. */
    eventfd_t one;
    if (eventfd_read(ctx->async_fd, &one) < 0)
        return -1;
    mm_enter();
    *event = c->events[c->first_event];
    c->first_event = (c->first_event + 1) % MM_MAX_ASYNC;
    c->n_events--;
    c->n_unacked++;
    if (event->event_type == IBV_EVENT_QP_FATAL)
        mm_qp_of("ibv_get_async_event", event->element.qp)->n_unacked++;
    mm_leave();
    return 0;
}

/* Nobody hears any more of a queue pair that goes. */
void mm_async_forget(struct mm_qp *qp)
{
    struct mm_ctx *c = mm_ctx_of("ibv_destroy_qp", qp->ex.qp_base.context);
    unsigned kept = 0, n = c->n_events;
    for (unsigned i = 0; i < n; i++) {
        struct ibv_async_event e = c->events[(c->first_event + i) % MM_MAX_ASYNC];
        eventfd_t one;
        if (e.event_type != IBV_EVENT_QP_FATAL || e.element.qp != &qp->ex.qp_base)
            c->events[(c->first_event + kept++) % MM_MAX_ASYNC] = e;
        else if (eventfd_read(c->verbs.context.async_fd, &one) < 0)
            mm_die("model", "eventfd: %s", strerror(errno));
    }
    c->n_events = kept;
}

static struct mm_ctx *acked_context(struct ibv_async_event *event)
{
    if (event->event_type == IBV_EVENT_QP_FATAL) {
        struct mm_qp *qp = mm_qp_of("ibv_ack_async_event", event->element.qp);
        qp->n_unacked--;
        return mm_ctx_of("ibv_ack_async_event", qp->ex.qp_base.context);
    }
    /* Events of ports and devices do not say whose they are. */
    for (struct mm_ctx *c = mm_contexts; c != NULL; c = c->next) {
        if (c->n_unacked > 0)
            return c;
    }
    return NULL;
}

void ibv_ack_async_event(struct ibv_async_event *event)
{
    mm_enter();
    struct mm_ctx *c = acked_context(event);
    if (c == NULL || c->n_unacked == 0)
        mm_complain("ibv_ack_async_event.event", "acknowledged before");
    else
        c->n_unacked--;
    mm_leave();
}
