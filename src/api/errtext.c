/* The line behind smt_error_text: per thread, for the last few contexts that thread used.
 *
 * A failing call of the data path stores a pointer to a constant; only set-up formats. Slots are
 * thread-local, so no lock; they name a context by its serial number, not its address, which may
 * come again. */
#include "api/api.h"

#include <stdio.h>
#include <string.h>

enum { N_SLOTS = 4, TEXT_LEN = 640 };

struct slot {
    uint64_t serial; /* 0: calls without a context */
    const char *fixed;
    char text[TEXT_LEN];
};

static _Thread_local struct slot slots[N_SLOTS];
static _Thread_local unsigned n_used, next_victim;

static struct slot *slot_find(uint64_t serial)
{
    for (unsigned i = 0; i < n_used; i++) {
        if (slots[i].serial == serial)
            return &slots[i];
    }
    return NULL;
}

static struct slot *slot_take(const struct smt_ctx *ctx)
{
    uint64_t serial = ctx == NULL ? 0 : ctx->serial;
    struct slot *s = slot_find(serial);
    if (s != NULL)
        return s;
    if (n_used < N_SLOTS)
        s = &slots[n_used++];
    else
        s = &slots[next_victim++ % N_SLOTS];
    s->serial = serial;
    return s;
}

int smt_fail(const struct smt_ctx *ctx, int code, const char *fmt, ...)
{
    struct slot *s = slot_take(ctx);
    char text[TEXT_LEN]; /* an argument may be the old text */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    memcpy(s->text, text, sizeof(text));
    s->fixed = NULL;
    return code;
}

int smt_fail_static(const struct smt_ctx *ctx, int code, const char *text)
{
    slot_take(ctx)->fixed = text;
    return code;
}

const char *smt_error_text(const struct smt_ctx *ctx)
{
    const struct slot *s = slot_find(ctx == NULL ? 0 : ctx->serial);
    if (s == NULL)
        return "";
    return s->fixed != NULL ? s->fixed : s->text;
}
