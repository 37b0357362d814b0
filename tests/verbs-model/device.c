/* Devices: listed, opened, asked; their asynchronous events; what happens to them from outside. */
#include <errno.h>
#include <fcntl.h>
#include <infiniband/mlx5dv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "model.h"

/* Macros of verbs.h that lead through inline functions. */
#undef ibv_query_port
#undef ibv_get_device_list

struct vm_device vm_devices[VERBS_MODEL_DEVICES];

static struct vm_device *device_of(const char *call, struct ibv_device *ibv)
{
    for (unsigned i = 0; i < verbs_model.n_devices; i++) {
        struct vm_device *dev = &vm_devices[i];
        if (ibv != &dev->ibv)
            continue;
        if (dev->n_listed == 0 && dev->n_open == 0)
            vm_abort(call, "device", "its list was freed and it is not open");
        return dev;
    }
    vm_abort(call, "device", "not one of a list");
}

struct vm_ctx *vm_ctx_of(const char *call, struct ibv_context *ctx)
{
    if (ctx == NULL)
        vm_abort(call, "context", "NULL");
    struct vm_ctx *c = SMT_CONTAINER_OF(ctx, struct vm_ctx, verbs.context);
    vm_expect(call, "context", &c->object, VM_CONTEXT);
    return c;
}

static void device_name(struct vm_device *dev)
{
    const struct verbs_model_device *k = vm_knobs_of(dev);
    dev->ibv.node_type = IBV_NODE_CA;
    dev->ibv.transport_type = IBV_TRANSPORT_IB;
    snprintf(dev->ibv.name, sizeof(dev->ibv.name), "%s", k->name);
    snprintf(dev->ibv.dev_name, sizeof(dev->ibv.dev_name), "uverbs%u", dev->index);
    snprintf(dev->ibv.dev_path, sizeof(dev->ibv.dev_path), "/sys"); /* there is one */
    if (k->ibdev_path[0] != '\0')
        snprintf(dev->ibv.ibdev_path, sizeof(dev->ibv.ibdev_path), "%s", k->ibdev_path);
    else
        snprintf(dev->ibv.ibdev_path, sizeof(dev->ibv.ibdev_path), "/sys/class/infiniband/%s",
                 k->name);
}

struct ibv_device **ibv_get_device_list(int *num_devices)
{
    vm_lock();
    vm_begin();
    struct ibv_device **list = NULL;
    if (vm_fails(VERBS_MODEL_GET_DEVICE_LIST, NULL) == 0) {
        list = calloc(verbs_model.n_devices + 1, sizeof(struct ibv_device *));
        for (unsigned i = 0; list != NULL && i < verbs_model.n_devices; i++) {
            struct vm_device *dev = &vm_devices[i];
            dev->index = i;
            /* Another thread may be reading the name of one that is in use. */
            if (dev->n_listed == 0 && dev->n_open == 0)
                device_name(dev);
            dev->n_listed++;
            list[i] = &dev->ibv;
        }
    }
    if (num_devices != NULL)
        *num_devices = list != NULL ? (int)verbs_model.n_devices : 0;
    vm_unlock();
    return list;
}

void ibv_free_device_list(struct ibv_device **list)
{
    vm_lock();
    for (unsigned i = 0; list[i] != NULL; i++) {
        struct vm_device *dev = device_of("ibv_free_device_list", list[i]);
        if (dev->n_listed == 0)
            vm_abort("ibv_free_device_list", "list", "freed before");
        dev->n_listed--;
    }
    free(list);
    vm_unlock();
}

const char *ibv_get_device_name(struct ibv_device *device)
{
    return device_of("ibv_get_device_name", device)->ibv.name;
}

__be64 ibv_get_device_guid(struct ibv_device *device)
{
    return htobe64(0x0200000000000100 + device_of("ibv_get_device_guid", device)->index);
}

int ibv_get_device_index(struct ibv_device *device)
{
    return (int)device_of("ibv_get_device_index", device)->index;
}

static int op_query_port(struct ibv_context *ctx, uint8_t port, struct ibv_port_attr *attr,
                         size_t attr_len)
{
    vm_lock();
    struct vm_device *dev = vm_ctx_of("ibv_query_port", ctx)->dev;
    const struct verbs_model_device *k = vm_knobs_of(dev);
    int r = vm_fails(VERBS_MODEL_QUERY_PORT, dev);
    if (r == 0 && port != 1)
        r = EINVAL;
    if (r == 0) {
        struct ibv_port_attr a = {.state = k->port_state,
                                  .max_mtu = k->max_mtu,
                                  .active_mtu = k->active_mtu,
                                  .gid_tbl_len = VERBS_MODEL_GIDS,
                                  .port_cap_flags = k->is_ib ? 0 : IBV_PORT_IP_BASED_GIDS,
                                  .max_msg_sz = 1u << 30,
                                  .pkey_tbl_len = 1,
                                  .lid = k->is_ib ? k->lid : 0,
                                  .sm_lid = k->is_ib ? 1 : 0,
                                  .max_vl_num = 1,
                                  .active_width = 2,
                                  .active_speed = 32,
                                  .phys_state = k->port_state == IBV_PORT_ACTIVE ? 5 : 3,
                                  .link_layer = k->is_ib ? IBV_LINK_LAYER_INFINIBAND
                                                         : IBV_LINK_LAYER_ETHERNET};
        memcpy(attr, &a, attr_len < sizeof(a) ? attr_len : sizeof(a));
    }
    vm_unlock();
    return r;
}

struct ibv_context *ibv_open_device(struct ibv_device *device)
{
    vm_lock();
    struct vm_device *dev = device_of("ibv_open_device", device);
    struct ibv_context *out = NULL;
    if (vm_fails(VERBS_MODEL_OPEN_DEVICE, dev) == 0) {
        struct vm_ctx *c = vm_object_new(sizeof(*c), offsetof(struct vm_ctx, object), VM_CONTEXT);
        c->dev = dev;
        c->verbs.sz = sizeof(c->verbs);
        c->verbs.query_port = op_query_port;
        if (vm_knobs_of(dev)->qp_ex != VERBS_MODEL_QP_EX_NONE)
            c->verbs.create_qp_ex = vm_op_create_qp_ex;
        out = &c->verbs.context;
        out->device = device;
        out->abi_compat = __VERBS_ABI_IS_EXTENDED;
        out->num_comp_vectors = 1;
        out->cmd_fd = -1;
        out->async_fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
        if (out->async_fd < 0)
            vm_abort("ibv_open_device", "async_fd", "eventfd: %s", strerror(errno));
        out->ops = (struct ibv_context_ops){.poll_cq = vm_op_poll_cq,
                                            .req_notify_cq = vm_op_req_notify_cq,
                                            .post_send = vm_op_post_send,
                                            .post_recv = vm_op_post_recv};
        dev->n_open++;
    }
    vm_unlock();
    return out;
}

int ibv_close_device(struct ibv_context *ctx)
{
    vm_lock();
    struct vm_ctx *c = vm_ctx_of("ibv_close_device", ctx);
    if (c->n_pds > 0)
        vm_abort("ibv_close_device", "context", "has %u protection domains", c->n_pds);
    if (c->n_cqs > 0)
        vm_abort("ibv_close_device", "context", "has %u completion queues", c->n_cqs);
    if (c->n_channels > 0)
        vm_abort("ibv_close_device", "context", "has %u completion channels", c->n_channels);
    if (c->n_unacked > 0)
        vm_abort("ibv_close_device", "context", "%u asynchronous events not acknowledged",
                 c->n_unacked);
    close(ctx->async_fd);
    c->dev->n_open--;
    vm_object_kill(&c->object);
    vm_unlock();
    return 0;
}

int ibv_query_device(struct ibv_context *ctx, struct ibv_device_attr *attr)
{
    vm_lock();
    struct vm_device *dev = vm_ctx_of("ibv_query_device", ctx)->dev;
    const struct verbs_model_device *k = vm_knobs_of(dev);
    int r = vm_fails(VERBS_MODEL_QUERY_DEVICE, dev);
    if (r == 0)
        *attr = (struct ibv_device_attr){.fw_ver = "1.0",
                                         .node_guid = htobe64(0x0200000000000100 + dev->index),
                                         .max_mr_size = UINT64_MAX,
                                         .page_size_cap = 0xfffff000,
                                         .vendor_id = k->is_mlx5 ? 0x02c9 : 0,
                                         .max_qp = VM_MAX_QPS,
                                         .max_qp_wr = (int)k->max_qp_wr,
                                         .max_sge = (int)k->max_sge,
                                         .max_cq = 1024,
                                         .max_cqe = (int)k->max_cqe,
                                         .max_mr = VM_MAX_MRS,
                                         .max_pd = 1024,
                                         .max_ah = 1 << 20,
                                         .max_pkeys = 1,
                                         .phys_port_cnt = 1};
    vm_unlock();
    return r;
}

static bool gid_is_set(const struct ibv_gid_entry *e)
{
    static const union ibv_gid none;
    return memcmp(&e->gid, &none, sizeof(none)) != 0;
}

ssize_t _ibv_query_gid_table(struct ibv_context *ctx, struct ibv_gid_entry *entries,
                             size_t max_entries, uint32_t flags, size_t entry_size)
{
    vm_lock();
    struct vm_device *dev = vm_ctx_of("ibv_query_gid_table", ctx)->dev;
    if (flags != 0)
        vm_abort("ibv_query_gid_table", "flags", "0x%x, must be 0", flags);
    if (entry_size != sizeof(*entries))
        vm_abort("ibv_query_gid_table", "entry_size", "%zu", entry_size);
    ssize_t n = -vm_fails(VERBS_MODEL_QUERY_GIDS, dev);
    for (unsigned i = 0; n >= 0 && i < VERBS_MODEL_GIDS; i++) {
        const struct ibv_gid_entry *e = &vm_knobs_of(dev)->gids[i];
        if (!gid_is_set(e))
            continue;
        if ((size_t)n == max_entries)
            n = -EINVAL;
        else
            entries[n++] = *e;
    }
    vm_unlock();
    return n;
}

int _ibv_query_gid_ex(struct ibv_context *ctx, uint32_t port, uint32_t index,
                      struct ibv_gid_entry *entry, uint32_t flags, size_t entry_size)
{
    vm_lock();
    struct vm_device *dev = vm_ctx_of("ibv_query_gid_ex", ctx)->dev;
    if (flags != 0 || entry_size != sizeof(*entry))
        vm_abort("ibv_query_gid_ex", "flags", "0x%x, entry_size %zu", flags, entry_size);
    int r = vm_fails(VERBS_MODEL_QUERY_GIDS, dev);
    if (r == 0 && (port != 1 || index >= VERBS_MODEL_GIDS))
        r = EINVAL;
    if (r == 0 && !gid_is_set(&vm_knobs_of(dev)->gids[index]))
        r = ENODATA;
    if (r == 0)
        *entry = vm_knobs_of(dev)->gids[index];
    vm_unlock();
    return r;
}

int ibv_query_gid(struct ibv_context *ctx, uint8_t port, int index, union ibv_gid *gid)
{
    struct ibv_gid_entry e = {0};
    if (index < 0)
        vm_abort("ibv_query_gid", "index", "%d", index);
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
    (void)vm_ctx_of("ibv_query_pkey", ctx);
    if (port != 1 || index != 0) {
        errno = EINVAL;
        return -1;
    }
    *pkey = 0xffff;
    return 0;
}

int ibv_get_pkey_index(struct ibv_context *ctx, uint8_t port, __be16 pkey)
{
    (void)vm_ctx_of("ibv_get_pkey_index", ctx);
    return port == 1 && pkey == 0xffff ? 0 : -1;
}

int ibv_fork_init(void)
{
    return 0;
}

enum ibv_fork_status ibv_is_fork_initialized(void)
{
    return IBV_FORK_UNNEEDED;
}

bool mlx5dv_is_supported(struct ibv_device *device)
{
    return vm_knobs_of(device_of("mlx5dv_is_supported", device))->is_mlx5;
}

void vm_async_push(struct vm_ctx *c, struct ibv_async_event event)
{
    if (c->n_events == VM_MAX_ASYNC)
        vm_abort("model", "asynchronous events", "%d are not read", VM_MAX_ASYNC);
    c->events[(c->first_event + c->n_events++) % VM_MAX_ASYNC] = event;
    verbs_model_counts.async_events++;
    if (eventfd_write(c->verbs.context.async_fd, 1) < 0)
        vm_abort("model", "async_fd", "%s", strerror(errno));
}

void vm_async_forget(struct vm_ctx *c, const void *element)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < c->n_events; i++) {
        struct ibv_async_event ev = c->events[(c->first_event + i) % VM_MAX_ASYNC];
        eventfd_t one;
        if ((const void *)ev.element.cq != element)
            c->events[(c->first_event + kept++) % VM_MAX_ASYNC] = ev;
        else if (eventfd_read(c->verbs.context.async_fd, &one) < 0)
            vm_abort("model", "async_fd", "%s", strerror(errno));
    }
    c->n_events = kept;
}

static bool is_of_qp(enum ibv_event_type type)
{
    switch (type) {
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_SQ_DRAINED:
        return true;
    default:
        return false;
    }
}

int ibv_get_async_event(struct ibv_context *ctx, struct ibv_async_event *event)
{
    vm_lock();
    struct vm_ctx *c = vm_ctx_of("ibv_get_async_event", ctx);
    vm_unlock();
    /* Blocks as the kernel's descriptor does, unless the user made it non-blocking. */
    eventfd_t one;
    if (eventfd_read(ctx->async_fd, &one) < 0)
        return -1;
    vm_lock();
    *event = c->events[c->first_event];
    c->first_event = (c->first_event + 1) % VM_MAX_ASYNC;
    c->n_events--;
    c->n_unacked++;
    if (event->event_type == IBV_EVENT_CQ_ERR)
        vm_cq_of("ibv_get_async_event", "event", event->element.cq)->n_unacked++;
    else if (is_of_qp(event->event_type))
        vm_qp_of("ibv_get_async_event", event->element.qp)->n_unacked++;
    vm_unlock();
    return 0;
}

static struct vm_ctx *acked_context(struct ibv_async_event *event)
{
    static const char call[] = "ibv_ack_async_event";
    if (event->event_type == IBV_EVENT_CQ_ERR) {
        struct vm_cq *cq = vm_cq_of(call, "event", event->element.cq);
        cq->n_unacked--;
        return vm_ctx_of(call, cq->ibv.context);
    }
    if (is_of_qp(event->event_type)) {
        struct vm_qp *qp = vm_qp_of(call, event->element.qp);
        qp->n_unacked--;
        return vm_ctx_of(call, qp->ex.qp_base.context);
    }
    /* Events of ports and devices do not say whose they are. */
    struct vm_object *o = NULL;
    while ((o = vm_object_next(VM_CONTEXT, o)) != NULL) {
        struct vm_ctx *c = SMT_CONTAINER_OF(o, struct vm_ctx, object);
        if (c->n_unacked > 0)
            return c;
    }
    vm_abort(call, "event", "acknowledged before");
}

void ibv_ack_async_event(struct ibv_async_event *event)
{
    vm_lock();
    struct vm_ctx *c = acked_context(event);
    if (c->n_unacked == 0)
        vm_abort("ibv_ack_async_event", "event", "acknowledged before");
    c->n_unacked--;
    vm_unlock();
}

static void push_to_all(unsigned device, struct ibv_async_event event)
{
    for (struct vm_object *o = NULL; (o = vm_object_next(VM_CONTEXT, o)) != NULL;) {
        struct vm_ctx *c = SMT_CONTAINER_OF(o, struct vm_ctx, object);
        if (c->dev == &vm_devices[device])
            vm_async_push(c, event);
    }
}

void verbs_model_device_event(unsigned device, enum ibv_event_type type)
{
    vm_lock();
    push_to_all(device, (struct ibv_async_event){.element.port_num = 1, .event_type = type});
    vm_unlock();
}

void verbs_model_remove(unsigned device)
{
    vm_lock();
    vm_devices[device].is_removed = true;
    vm_unlock();
    (void)verbs_model_qp_error(device, -1);
    verbs_model_device_event(device, IBV_EVENT_DEVICE_FATAL);
}

void verbs_model_remove_node(unsigned device)
{
    vm_lock();
    struct ibv_device *ibv = &vm_devices[device].ibv;
    snprintf(ibv->dev_path, sizeof(ibv->dev_path), "/sys/gone");
    vm_unlock();
}

void verbs_model_set_port(unsigned device, bool is_up)
{
    verbs_model.devices[device].port_state = is_up ? IBV_PORT_ACTIVE : IBV_PORT_DOWN;
    verbs_model_device_event(device, is_up ? IBV_EVENT_PORT_ACTIVE : IBV_EVENT_PORT_ERR);
}
