/* Firmware commands as DevX carries them: lengths, reserved bits, then what they ask for. A command
 * that the firmware refuses answers EREMOTEIO, with status and syndrome in its output. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "caps.h"
#include "model.h"

enum {
    QUERY_HCA_CAP = 0x100,
    ALLOC_TD = 0x816,
    DEALLOC_TD = 0x817,
    CREATE_TIS = 0x912,
    DESTROY_TIS = 0x914,
    QUERY_TIS = 0x915,
    CREATE_OBJ = 0xa00,
    MODIFY_OBJ = 0xa01,
    QUERY_OBJ = 0xa02,
    DESTROY_OBJ = 0xa03,
    SYNC_CRYPTO = 0xb12,
    ENCRYPTION_KEY = 0xc,
    PURPOSE_TLS = 1,
    SELECT_KEY = 1,
};

struct mlx5dv_devx_obj {
    uint32_t kind;
    struct ibv_context *ctx;
    uint32_t opcode, number; /* what made it */
};

static struct mm_ctx *devx_ctx(const char *call, struct ibv_context *ctx)
{
    struct mm_ctx *c = mm_ctx_of(call, ctx);
    if (!c->has_devx)
        return NULL;
    return c;
}

/* Puts status and syndrome into an answer; the errno for it. */
static int answer(void *out, size_t out_len, enum mm_status status, uint32_t opcode)
{
    mm_stats.commands++;
    memset(out, 0, out_len < 16 ? out_len : 16);
    if (status == MM_OK || out_len < 8)
        return status == MM_OK ? 0 : EREMOTEIO;
    mm_stats.commands_failed++;
    mm_set(out, MM_OUT_STATUS, status);
    mm_set(out, MM_OUT_SYNDROME, 0x350000u + opcode);
    return EREMOTEIO;
}

/* The library is built against some length of key object: 256 bytes or, since 2023, 512. */
static bool len_fits(uint32_t opcode, size_t in_len, size_t out_len)
{
    static const struct {
        uint32_t opcode;
        size_t in, out, in_other, out_other;
    } rows[] = {
        {QUERY_HCA_CAP, 16, 4112, 16, 4112}, {ALLOC_TD, 16, 16, 16, 16},
        {DEALLOC_TD, 16, 16, 16, 16},        {CREATE_TIS, 192, 16, 192, 16},
        {DESTROY_TIS, 16, 16, 16, 16},       {QUERY_TIS, 16, 176, 16, 176},
        {CREATE_OBJ, 272, 16, 528, 16},      {MODIFY_OBJ, 272, 16, 528, 16},
        {QUERY_OBJ, 16, 272, 16, 528},       {DESTROY_OBJ, 16, 16, 16, 16},
        {SYNC_CRYPTO, 32, 16, 32, 16},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].opcode != opcode)
            continue;
        if (in_len != rows[i].in && in_len != rows[i].in_other)
            return mm_complain("cmd.inlen", "%zu, opcode 0x%x has %zu", in_len, opcode, rows[i].in);
        if (out_len != rows[i].out && out_len != rows[i].out_other)
            return mm_complain("cmd.outlen", "%zu, opcode 0x%x has %zu", out_len, opcode,
                               rows[i].out);
        return true;
    }
    return mm_complain("cmd.opcode", "0x%x is not modelled", opcode);
}

static bool bits_fit(enum mm_layout layout, const void *bytes, size_t len, const char *what)
{
    int bit = mm_reserved_bit(layout, bytes, len);
    if (bit < 0)
        return true;
    return mm_complain(what, "reserved bit 0x%x (byte %d) is set", (unsigned)bit, bit / 8);
}

/* The user id is the kernel's to write, so that nobody claims another's. */
static bool head_fits(enum mm_layout layout, const void *in, size_t len, const char *what,
                      enum mm_field uid)
{
    if (mm_get(in, uid) != 0)
        return mm_complain(mm_fields[uid].name, "0x%x: the kernel writes it",
                           (unsigned)mm_get(in, uid));
    return bits_fit(layout, in, len, what);
}

static enum mm_status tis_create(const uint8_t *in, uint32_t *number)
{
    if (!head_fits(MM_TIS_IN, in, 192, "create_tis.reserved", MM_TIS_UID))
        return MM_BAD_PARAM;
    if (mm_get(in, MM_TIS_OP_MOD) != 0) {
        mm_complain("create_tis.op_mod", "must be 0");
        return MM_BAD_PARAM;
    }
    if (mm_get(in, MM_TIS_PRIO) != 0) {
        mm_complain("tisc.prio", "%u is not modelled", (unsigned)mm_get(in, MM_TIS_PRIO));
        return MM_BAD_PARAM;
    }
    bool tls = mm_get(in, MM_TIS_TLS_EN);
    if (tls && !mm_config()->tls_tx) {
        mm_complain("tisc.tls_en", "1 on a device without tls_tx");
        return MM_BAD_PARAM;
    }
    if (mm_config()->tis_status != 0)
        return (enum mm_status)mm_config()->tis_status;
    return mm_tis_new((uint32_t)mm_get(in, MM_TIS_TD), (uint32_t)mm_get(in, MM_TIS_PD), tls,
                      number);
}

/* Checks a key object; the key's place among its 32 bytes and its length come out. */
static bool dek_fits(const uint8_t *object, size_t len, const uint8_t **key, uint32_t *key_len)
{
    if (!bits_fit(MM_DEK, object, len, "dek.reserved"))
        return false;
    if (mm_get(object, MM_DEK_STATE) != 0)
        return mm_complain("dek.state", "must be 0");
    if (mm_get(object, MM_DEK_PURPOSE) != PURPOSE_TLS)
        return mm_complain("dek.key_purpose", "%u, TLS is 1",
                           (unsigned)mm_get(object, MM_DEK_PURPOSE));
    uint32_t size = (uint32_t)mm_get(object, MM_DEK_KEY_SIZE);
    if (size > 1)
        return mm_complain("dek.key_size", "%u: 0 is 128 bits, 1 is 256", size);
    if (size == 0 && (mm_get(object, MM_DEK_KEY_0) | mm_get(object, MM_DEK_KEY_1)) != 0)
        return mm_complain("dek.key", "a key of 128 bits is in the last 16 of its 32 bytes");
    if ((mm_get(object, MM_DEK_KEY_2) | mm_get(object, MM_DEK_KEY_3)) == 0)
        return mm_complain("dek.key", "is zero");
    *key = object + mm_fields[MM_DEK_KEY_0].bit / 8 + (size == 0 ? 16 : 0);
    *key_len = size == 0 ? 16 : 32;
    return true;
}

static bool suites_have(uint32_t key_len)
{
    return mm_config()->tls & (key_len == 16 ? 0xc : 0x3);
}

static enum mm_status dek_create(const uint8_t *in, size_t in_len, uint32_t *number)
{
    const uint8_t *object = in + 16, *key;
    uint32_t key_len;
    if (!head_fits(MM_OBJ_IN, in, 16, "obj.reserved", MM_OBJ_UID))
        return MM_BAD_PARAM;
    if (mm_get(in, MM_OBJ_TYPE) != ENCRYPTION_KEY) {
        mm_complain("obj.obj_type", "0x%x is not modelled", (unsigned)mm_get(in, MM_OBJ_TYPE));
        return MM_BAD_PARAM;
    }
    if (mm_get(in, MM_OBJ_ID) != 0) {
        mm_complain("obj.obj_id", "must be 0 in a creation");
        return MM_BAD_PARAM;
    }
    if (mm_get(object, MM_DEK_SELECT) != 0) {
        mm_complain("dek.modify_field_select", "must be 0 in a creation");
        return MM_BAD_PARAM;
    }
    if (!dek_fits(object, in_len - 16, &key, &key_len))
        return MM_BAD_PARAM;
    if (mm_config()->dek_status != 0)
        return (enum mm_status)mm_config()->dek_status;
    if (!(mm_config()->obj_types >> ENCRYPTION_KEY & 1) || !suites_have(key_len))
        return MM_BAD_PARAM;
    if (mm_config()->failed_selftests != 0)
        return MM_BAD_RESOURCE;
    return mm_dek_new((uint32_t)mm_get(object, MM_DEK_PD), key, key_len, number);
}

struct mlx5dv_devx_obj *mlx5dv_devx_obj_create(struct ibv_context *ctx, const void *in,
                                               size_t in_len, void *out, size_t out_len)
{
    mm_enter();
    struct mm_ctx *c = devx_ctx("mlx5dv_devx_obj_create", ctx);
    struct mlx5dv_devx_obj *obj = NULL;
    uint32_t opcode = in_len >= 16 ? (uint32_t)mm_get(in, MM_IN_OPCODE) : 0, number = 0;
    enum mm_status status = MM_BAD_OP;
    errno = c == NULL ? EOPNOTSUPP : c->dev->is_gone ? EIO : 0;
    if (errno == 0 && !len_fits(opcode, in_len, out_len))
        status = MM_BAD_INPUT_LEN;
    else if (errno == 0 && opcode == ALLOC_TD)
        status = !head_fits(MM_CMD_IN, in, 16, "cmd.reserved", MM_IN_UID) ? MM_BAD_PARAM
                 : mm_get(in, MM_IN_NUMBER) != 0 || mm_get(in, MM_IN_OP_MOD) != 0
                     ? (mm_complain("cmd.reserved", "ALLOC_TRANSPORT_DOMAIN has no argument"),
                        MM_BAD_PARAM)
                 : mm_config()->td_status != 0 ? (enum mm_status)mm_config()->td_status
                                               : mm_td_new(&number);
    else if (errno == 0 && opcode == CREATE_TIS)
        status = tis_create(in, &number);
    else if (errno == 0 && opcode == CREATE_OBJ)
        status = dek_create(in, in_len, &number);
    else if (errno == 0)
        mm_complain("cmd.opcode", "0x%x makes no object", opcode);
    if (errno == 0)
        errno = answer(out, out_len, status, opcode);
    if (errno == 0) {
        mm_set(out, opcode == CREATE_OBJ ? MM_OUT_OBJ_ID : MM_OUT_NUMBER, number);
        obj = calloc(1, sizeof(*obj));
        if (obj == NULL)
            mm_die("model", "out of memory");
        *obj = (struct mlx5dv_devx_obj){
            .kind = MM_DEVX, .ctx = ctx, .opcode = opcode, .number = number};
        c->n_devx++;
    }
    int e = errno;
    mm_leave();
    errno = e;
    return obj;
}

static void obj_check(const char *call, const struct mlx5dv_devx_obj *obj)
{
    if (obj == NULL || obj->kind != MM_DEVX)
        mm_die(call, "DevX object: none, or destroyed");
}

int mlx5dv_devx_obj_destroy(struct mlx5dv_devx_obj *obj)
{
    mm_enter();
    obj_check("mlx5dv_devx_obj_destroy", obj);
    enum mm_status status = obj->opcode == ALLOC_TD     ? mm_td_free(obj->number)
                            : obj->opcode == CREATE_TIS ? mm_tis_free(obj->number)
                                                        : mm_dek_free(obj->number);
    if (status == MM_OK) {
        mm_ctx_of("mlx5dv_devx_obj_destroy", obj->ctx)->n_devx--;
        obj->kind = MM_DEAD;
        mm_bury(obj);
    }
    mm_leave();
    if (status == MM_OK)
        return 0;
    errno = EREMOTEIO;
    return EREMOTEIO;
}

static enum mm_status dek_modify(const uint8_t *in, size_t in_len, uint32_t number)
{
    const uint8_t *object = in + 16, *key;
    uint32_t key_len;
    if (!head_fits(MM_OBJ_IN, in, 16, "obj.reserved", MM_OBJ_UID))
        return MM_BAD_PARAM;
    if (mm_get(in, MM_OBJ_TYPE) != ENCRYPTION_KEY || mm_get(in, MM_OBJ_ID) != number) {
        mm_complain("obj.obj_id", "type 0x%x, id 0x%x: the object is key 0x%x",
                    (unsigned)mm_get(in, MM_OBJ_TYPE), (unsigned)mm_get(in, MM_OBJ_ID), number);
        return MM_BAD_PARAM;
    }
    if (mm_get(object, MM_DEK_SELECT) != SELECT_KEY) {
        mm_complain("dek.modify_field_select", "must be 1: the key");
        return MM_BAD_PARAM;
    }
    if (!mm_config()->sync_dek) {
        mm_complain("obj.opcode", "MODIFY on a device that cannot synchronise keys");
        return MM_BAD_OP;
    }
    if (!dek_fits(object, in_len - 16, &key, &key_len))
        return MM_BAD_PARAM;
    struct mm_dek *d = mm_dek_by_id(number);
    if (mm_get(object, MM_DEK_PD) != d->pdn) {
        mm_complain("dek.pd", "0x%x, the key was made in 0x%x", (unsigned)mm_get(object, MM_DEK_PD),
                    d->pdn);
        return MM_BAD_PARAM;
    }
    if (!suites_have(key_len))
        return MM_BAD_PARAM;
    memset(d->key, 0, sizeof(d->key));
    memcpy(d->key, key, key_len);
    d->key_len = key_len;
    d->turn += 0x10000;
    d->needs_sync = true;
    d->is_lost = false;
    return MM_OK;
}

int mlx5dv_devx_obj_modify(struct mlx5dv_devx_obj *obj, const void *in, size_t in_len, void *out,
                           size_t out_len)
{
    mm_enter();
    obj_check("mlx5dv_devx_obj_modify", obj);
    uint32_t opcode = in_len >= 16 ? (uint32_t)mm_get(in, MM_IN_OPCODE) : 0;
    enum mm_status status = MM_BAD_OP;
    if (!len_fits(opcode, in_len, out_len))
        status = MM_BAD_INPUT_LEN;
    else if (opcode == MODIFY_OBJ && obj->opcode == CREATE_OBJ)
        status = dek_modify(in, in_len, obj->number);
    else
        mm_complain("cmd.opcode", "0x%x does not modify this object", opcode);
    int r = answer(out, out_len, status, opcode);
    mm_leave();
    errno = r;
    return r;
}

static enum mm_status object_query(const uint8_t *in, uint8_t *out, size_t out_len, uint32_t number)
{
    if (!head_fits(MM_OBJ_IN, in, 16, "obj.reserved", MM_OBJ_UID))
        return MM_BAD_PARAM;
    struct mm_dek *d = mm_dek_by_id(number);
    if (mm_get(in, MM_OBJ_TYPE) != ENCRYPTION_KEY || mm_get(in, MM_OBJ_ID) != number || d == NULL) {
        mm_complain("obj.obj_id", "0x%x is not the key asked for", (unsigned)mm_get(in, MM_OBJ_ID));
        return MM_BAD_PARAM;
    }
    memset(out + 16, 0, out_len - 16);
    mm_set(out + 16, MM_DEK_STATE, d->is_lost ? 1 : 0);
    mm_set(out + 16, MM_DEK_KEY_SIZE, d->key_len == 16 ? 0 : 1);
    mm_set(out + 16, MM_DEK_PURPOSE, PURPOSE_TLS);
    mm_set(out + 16, MM_DEK_PD, d->pdn);
    return MM_OK;
}

static enum mm_status tis_query(const uint8_t *in, uint8_t *out, uint32_t tisn)
{
    if (!head_fits(MM_CMD_IN, in, 16, "cmd.reserved", MM_IN_UID))
        return MM_BAD_PARAM;
    if (mm_get(in, MM_IN_NUMBER) != tisn) {
        mm_complain("query_tis.tisn", "0x%x, the object is 0x%x",
                    (unsigned)mm_get(in, MM_IN_NUMBER), tisn);
        return MM_BAD_PARAM;
    }
    const struct mm_tis *t = mm_tis_by_number(tisn);
    /* The context stands 16 bytes earlier than in the command that made it. */
    uint8_t in_place[192] = {0};
    mm_set(in_place, MM_TIS_TLS_EN, t != NULL && t->is_tls);
    mm_set(in_place, MM_TIS_TD, t != NULL ? t->td : 0x7d0001);
    mm_set(in_place, MM_TIS_PD, t != NULL ? t->pdn : 0);
    memcpy(out + 16, in_place + 32, 160);
    return MM_OK;
}

int mlx5dv_devx_obj_query(struct mlx5dv_devx_obj *obj, const void *in, size_t in_len, void *out,
                          size_t out_len)
{
    mm_enter();
    obj_check("mlx5dv_devx_obj_query", obj);
    uint32_t opcode = in_len >= 16 ? (uint32_t)mm_get(in, MM_IN_OPCODE) : 0;
    enum mm_status status = MM_BAD_OP;
    if (!len_fits(opcode, in_len, out_len))
        status = MM_BAD_INPUT_LEN;
    else if (opcode == QUERY_OBJ && obj->opcode == CREATE_OBJ)
        status = object_query(in, out, out_len, obj->number);
    else if (opcode == QUERY_TIS && obj->opcode == CREATE_TIS)
        status = tis_query(in, out, obj->number);
    else
        mm_complain("cmd.opcode", "0x%x does not ask for this object", opcode);
    int r = answer(out, out_len, status, opcode);
    mm_leave();
    errno = r;
    return r;
}

int mlx5dv_devx_qp_query(struct ibv_qp *ibv, const void *in, size_t in_len, void *out,
                         size_t out_len)
{
    mm_enter();
    struct mm_qp *qp = mm_qp_of("mlx5dv_devx_qp_query", ibv);
    uint32_t opcode = in_len >= 16 ? (uint32_t)mm_get(in, MM_IN_OPCODE) : 0;
    enum mm_status status = MM_BAD_OP;
    if (!len_fits(opcode, in_len, out_len))
        status = MM_BAD_INPUT_LEN;
    else if (opcode == QUERY_TIS)
        status = tis_query(in, out, qp->tisn);
    else
        mm_complain("cmd.opcode", "0x%x does not ask for a queue pair", opcode);
    int r = answer(out, out_len, status, opcode);
    mm_leave();
    errno = r;
    return r;
}

int mlx5dv_devx_general_cmd(struct ibv_context *ctx, const void *in, size_t in_len, void *out,
                            size_t out_len)
{
    mm_enter();
    struct mm_ctx *c = devx_ctx("mlx5dv_devx_general_cmd", ctx);
    uint32_t opcode = in_len >= 16 ? (uint32_t)mm_get(in, MM_IN_OPCODE) : 0;
    enum mm_status status = MM_BAD_OP;
    int r = c == NULL ? EOPNOTSUPP : c->dev->is_gone ? EIO : 0;
    if (r == 0 && !len_fits(opcode, in_len, out_len)) {
        status = MM_BAD_INPUT_LEN;
    } else if (r == 0 && opcode == QUERY_HCA_CAP) {
        uint32_t mod = (uint32_t)mm_get(in, MM_IN_OP_MOD);
        status = !head_fits(MM_CMD_IN, in, 16, "cmd.reserved", MM_IN_UID) ||
                         mm_get(in, MM_IN_NUMBER) != 0
                     ? MM_BAD_PARAM
                     : mm_caps_fill(mod >> 1, mod & 1, (uint8_t *)out + 16);
    } else if (r == 0 && opcode == SYNC_CRYPTO) {
        status = MM_BAD_PARAM;
        if (!head_fits(MM_SYNC_IN, in, 32, "sync_crypto.reserved", MM_SYNC_UID))
            status = MM_BAD_PARAM;
        else if (mm_get(in, MM_SYNC_TYPE) != PURPOSE_TLS || !mm_config()->sync_dek)
            mm_complain("sync_crypto.crypto_type", "0x%x, TLS is 1",
                        (unsigned)mm_get(in, MM_SYNC_TYPE));
        else
            status = MM_OK;
        if (status == MM_OK) {
            mm_deks_sync();
            mm_stats.syncs++;
        }
    } else if (r == 0) {
        mm_complain("cmd.opcode", "0x%x is no general command", opcode);
    }
    if (r == 0)
        r = answer(out, out_len, status, opcode);
    mm_leave();
    errno = r;
    return r;
}
