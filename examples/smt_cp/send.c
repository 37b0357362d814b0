/* The sending side: a window of calls. Small files are one call each; large ones are opened,
 * compared with what the receiver has, streamed in blocks and committed with the SHA-256 of all
 * bytes read. The receiver is never believed about a partial file: only blocks whose hashes
 * equal ours are left out. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cp.h"
#include "hash.h"
#include "list.h"
#include "path.h"
#include "progress.h"

enum {
    N_OPS = 48,            /* calls in flight */
    N_BLOCKS_IN_FLIGHT = 16,
    MAX_ACTIVE = 8,        /* large files at the same time */
    BLOCKS_PER_TURN = 4,   /* read and hashed between two polls */
    BATCH = 64,
    WAIT_MS = 100,
};

enum file_state { FILE_OPENING, FILE_STREAMING, FILE_COMMITTING, FILE_ABORTING };

/* A large file on its way. */
struct file {
    struct file *next;
    const struct entry *entry;
    enum file_state state;
    int fd;
    uint64_t id;
    EVP_MD_CTX *hash;
    uint64_t at;           /* bytes read and hashed */
    uint64_t sent;
    unsigned n_in_flight;
    bool failed, opened;
    bool is_final;         /* the receiver compares with a complete file */
    uint64_t have_len;
    uint8_t *have;
    size_t n_have;
};

/* A call: its memory is lent while it is in flight. */
struct op {
    struct op *next;
    enum cp_op kind;
    struct file *file;
    const struct entry *entry;
    uint8_t head[CP_HEAD_MAX];
    uint8_t *data;         /* CP_BLOCK, made when first needed */
    size_t head_len, data_len;
};

struct sender {
    const struct cp_options *options;
    struct smt_ctx *ctx;
    struct smt_ep *ep;
    struct smt_session *session;
    struct list list;
    struct op *free_ops, *stalled, *all_ops[N_OPS];
    unsigned n_in_flight, n_blocks, n_active;
    struct file *files;
    size_t next_entry;
    bool dirs_last;        /* second part: modes and times of directories */
    int fatal;
    uint64_t bytes_done, bytes_sent, n_files, n_dirs, n_links, n_unchanged, n_errors;
    uint64_t start_ns;
    struct cp_request request;
    uint8_t *scratch;
};

static void entry_error(struct sender *s, const struct entry *e, const char *text)
{
    cp_error("%s: %s", e->dest[0] != '\0' ? e->dest : ".", text);
    s->n_errors++;
}

static struct op *take_op(struct sender *s, enum cp_op kind, const struct entry *entry)
{
    struct op *op = s->free_ops;
    s->free_ops = op->next;
    op->kind = kind;
    op->entry = entry;
    op->file = NULL;
    op->data_len = 0;
    s->request = (struct cp_request){.op = kind};
    if (entry != NULL) {
        memcpy(s->request.path, entry->dest, strlen(entry->dest) + 1);
        s->request.meta = entry->meta;
        s->request.size = entry->size;
    }
    return op;
}

static void free_op(struct sender *s, struct op *op)
{
    op->next = s->free_ops;
    s->free_ops = op;
}

static void post(struct sender *s, struct op *op)
{
    struct smt_iov iov[2] = {{.base = op->head, .len = op->head_len},
                             {.base = op->data, .len = op->data_len}};
    struct smt_call_args args = {
        .size = sizeof(args), .iov = iov, .n_iov = op->data_len != 0 ? 2 : 1, .user = op};
    int rc = smt_call(s->session, &args, NULL);
    if (rc == SMT_EAGAIN) {
        s->stalled = op;
    } else if (rc < 0) {
        s->fatal = rc;
    } else {
        s->stalled = NULL;
        s->n_in_flight++;
    }
}

static void post_request(struct sender *s, struct op *op)
{
    op->head_len = cp_put_request(&s->request, op->head);
    post(s, op);
}

static uint8_t *block_of(struct op *op)
{
    if (op->data == NULL) {
        op->data = malloc(CP_BLOCK);
    }
    return op->data;
}

/* All of the next bytes, or -1 with errno (EIO: the file has become shorter). */
static int read_all(int fd, uint8_t *out, size_t len, uint64_t offset)
{
    while (len > 0) {
        ssize_t n = pread(fd, out, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return -1;
        }
        out += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int open_source(const struct entry *e)
{
    const char *name;
    int dir = path_parent(e->root, e->rel, false, &name);
    if (dir < 0) {
        return -1;
    }
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int error = errno;
    close(dir);
    errno = error;
    return fd;
}

static void put_small(struct sender *s, const struct entry *e)
{
    int fd = open_source(e);
    if (fd < 0) {
        entry_error(s, e, strerror(errno));
        s->bytes_done += e->size;
        return;
    }
    struct op *op = take_op(s, CP_PUT, e);
    if (block_of(op) == NULL || read_all(fd, op->data, (size_t)e->size, 0) != 0 ||
        hash_of(op->data, (size_t)e->size, s->request.hash) != 0) {
        entry_error(s, e, errno == EIO ? "changed while it was read" : strerror(errno));
        s->bytes_done += e->size;
        free_op(s, op);
    } else {
        op->data_len = (size_t)e->size;
        s->bytes_sent += e->size;
        post_request(s, op);
    }
    close(fd);
}

static void put_link(struct sender *s, const struct entry *e)
{
    const char *name;
    struct op *op = take_op(s, CP_LINK, e);
    int dir = path_parent(e->root, e->rel, false, &name);
    ssize_t len = dir < 0 ? -1 : readlinkat(dir, name, s->request.target, CP_PATH_MAX);
    if (len < 0) {
        entry_error(s, e, strerror(errno));
        free_op(s, op);
    } else {
        s->request.target[len] = '\0';
        post_request(s, op);
    }
    if (dir >= 0) {
        close(dir);
    }
}

static void ask_open(struct sender *s, struct file *f, bool fresh)
{
    struct op *op = take_op(s, CP_OPEN, f->entry);
    op->file = f;
    s->request.fresh = fresh;
    f->state = FILE_OPENING;
    f->n_in_flight++;
    post_request(s, op);
}

static void start_large(struct sender *s, const struct entry *e)
{
    struct file *f = calloc(1, sizeof(*f));
    int fd = open_source(e);
    EVP_MD_CTX *hash = hash_begin();
    if (f == NULL || fd < 0 || hash == NULL) {
        entry_error(s, e, fd < 0 ? strerror(errno) : "out of memory");
        s->bytes_done += e->size;
        EVP_MD_CTX_free(hash);
        free(f);
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    *f = (struct file){.next = s->files, .entry = e, .fd = fd, .hash = hash};
    s->files = f;
    s->n_active++;
    ask_open(s, f, false);
}

static void end_file(struct sender *s, struct file *f)
{
    for (struct file **link = &s->files; *link != NULL; link = &(*link)->next) {
        if (*link == f) {
            *link = f->next;
            break;
        }
    }
    s->n_active--;
    s->bytes_done += f->entry->size - f->at;
    close(f->fd);
    EVP_MD_CTX_free(f->hash);
    free(f->have);
    free(f);
}

static void fail_file(struct sender *s, struct file *f, const char *text)
{
    if (!f->failed) {
        entry_error(s, f->entry, text);
        f->failed = true;
    }
}

static void commit(struct sender *s, struct file *f)
{
    struct op *op = take_op(s, CP_COMMIT, f->entry);
    op->file = f;
    s->request.path[0] = '\0';
    s->request.id = f->id;
    if (hash_end(f->hash, s->request.hash) != 0) {
        fail_file(s, f, "SHA-256 failed");
    }
    f->hash = NULL;
    f->state = FILE_COMMITTING;
    f->n_in_flight++;
    post_request(s, op);
}

static void abandon(struct sender *s, struct file *f)
{
    struct op *op = take_op(s, CP_ABORT, f->entry);
    op->file = f;
    s->request.path[0] = '\0';
    s->request.id = f->id;
    f->state = FILE_ABORTING;
    f->n_in_flight++;
    post_request(s, op);
}

/* The complete file over there differs after all: begin again with nothing. */
static void begin_again(struct sender *s, struct file *f)
{
    EVP_MD_CTX_free(f->hash);
    f->hash = hash_begin();
    if (f->hash == NULL) {
        fail_file(s, f, "out of memory");
        return;
    }
    s->bytes_done -= f->at;
    f->at = 0;
    f->is_final = false;
    free(f->have);
    f->have = NULL;
    f->n_have = 0;
    ask_open(s, f, true);
}

static bool peer_has(const struct file *f, uint64_t at, const uint8_t *data, size_t len)
{
    uint64_t index = at / CP_BLOCK;
    uint8_t hash[CP_HASH_LEN];
    uint64_t there = f->have_len - at < CP_BLOCK ? f->have_len - at : CP_BLOCK;
    return index < f->n_have && at < f->have_len && there == len &&
           hash_of(data, len, hash) == 0 &&
           memcmp(hash, f->have + index * CP_HASH_LEN, CP_HASH_LEN) == 0;
}

/* Reads the next block; sends it unless it is there already. */
static void stream_block(struct sender *s, struct file *f)
{
    uint64_t left = f->entry->size - f->at;
    size_t len = left < CP_BLOCK ? (size_t)left : CP_BLOCK;
    struct op *op = take_op(s, CP_WRITE, f->entry);
    op->file = f;
    s->request.path[0] = '\0';
    s->request.id = f->id;
    s->request.offset = f->at;
    if (block_of(op) == NULL || read_all(f->fd, op->data, len, f->at) != 0 ||
        hash_more(f->hash, op->data, len) != 0) {
        fail_file(s, f, errno == EIO ? "changed while it was read" : strerror(errno));
        free_op(s, op);
        return;
    }
    bool has = peer_has(f, f->at, op->data, len);
    if (has || f->is_final) {
        free_op(s, op);
        if (!has) {
            begin_again(s, f);
            return;
        }
        f->at += len;
        s->bytes_done += len;
        return;
    }
    op->data_len = len;
    f->at += len;
    f->sent += len;
    s->bytes_sent += len;
    s->bytes_done += len;
    s->n_blocks++;
    f->n_in_flight++;
    post_request(s, op);
}

/* One step of one file; false when it has to wait for an answer. */
static bool step_file(struct sender *s, struct file *f, unsigned *n_blocks)
{
    if (f->failed) {
        if (f->n_in_flight == 0) {
            if (f->opened) {
                f->opened = false;
                abandon(s, f);
            } else {
                end_file(s, f);
            }
            return true;
        }
        return false;
    }
    if (f->state != FILE_STREAMING) {
        return false;
    }
    if (f->at < f->entry->size) {
        if (s->n_blocks >= N_BLOCKS_IN_FLIGHT || *n_blocks == 0) {
            return false;
        }
        --*n_blocks;
        stream_block(s, f);
        return true;
    }
    if (f->n_in_flight == 0) {
        commit(s, f);
        return true;
    }
    return false;
}

static void start_entry(struct sender *s, const struct entry *e)
{
    switch (e->type) {
    case ENTRY_DIR:
        post_request(s, take_op(s, CP_MKDIR, e));
        break;
    case ENTRY_LINK:
        put_link(s, e);
        break;
    case ENTRY_FILE:
        if (e->size <= CP_SMALL) {
            put_small(s, e);
        } else {
            start_large(s, e);
        }
        break;
    }
}

/* The next directory from the end whose mode and time are due. */
static bool next_dir(struct sender *s)
{
    while (s->next_entry > 0) {
        const struct entry *e = &s->list.entries[--s->next_entry];
        if (e->type == ENTRY_DIR) {
            post_request(s, take_op(s, CP_SETDIR, e));
            return true;
        }
    }
    return false;
}

static bool can_post(const struct sender *s)
{
    return s->fatal == 0 && s->stalled == NULL && s->free_ops != NULL;
}

/* Does what can be done now; true when more could be done at once. */
static bool pump(struct sender *s)
{
    unsigned n_blocks = BLOCKS_PER_TURN;
    if (s->stalled != NULL) {
        post(s, s->stalled);
    }
    for (bool any = true; any && can_post(s);) {
        any = false;
        for (struct file *f = s->files, *next; f != NULL && can_post(s); f = next) {
            next = f->next;
            any = step_file(s, f, &n_blocks) || any;
        }
        if (!can_post(s)) {
            break;
        }
        if (s->dirs_last) {
            any = next_dir(s) || any;
        } else if (s->next_entry < s->list.n && s->n_active < MAX_ACTIVE) {
            start_entry(s, &s->list.entries[s->next_entry++]);
            any = true;
        }
    }
    return n_blocks == 0 && s->n_blocks < N_BLOCKS_IN_FLIGHT && can_post(s);
}

static void opened(struct sender *s, struct file *f, const struct cp_have *have)
{
    f->id = have->id;
    f->opened = true;
    f->have_len = have->len;
    f->is_final = have->is_final;
    f->n_have = have->n_hashes;
    f->have = malloc(have->n_hashes * CP_HASH_LEN + 1);
    if (f->have == NULL) {
        fail_file(s, f, "out of memory");
        return;
    }
    memcpy(f->have, have->hashes, have->n_hashes * CP_HASH_LEN);
    f->state = FILE_STREAMING;
}

static void take_file_answer(struct sender *s, struct op *op, int status, const char *text,
                             const struct cp_have *have)
{
    struct file *f = op->file;
    f->n_in_flight--;
    if (op->kind == CP_WRITE) {
        s->n_blocks--;
    }
    if (op->kind == CP_ABORT) {
        end_file(s, f);
    } else if (status != 0) {
        fail_file(s, f, text);
    } else if (op->kind == CP_OPEN) {
        opened(s, f, have);
    } else if (op->kind == CP_COMMIT) {
        s->n_files += !f->failed;
        s->n_unchanged += f->sent == 0;
        end_file(s, f);
    }
}

static void take_answer(struct sender *s, const struct smt_event *event)
{
    char text[512];
    struct op *op = event->user;
    struct cp_have have;
    int status = cp_get_answer(event->data, event->len, text, sizeof(text),
                               op->kind == CP_OPEN ? &have : NULL);
    if (status < 0) {
        s->fatal = SMT_EMALFORMED;
    } else if (op->file != NULL) {
        take_file_answer(s, op, status, text, &have);
    } else if (status != 0) {
        entry_error(s, op->entry, text);
        s->bytes_done += op->kind == CP_PUT ? op->entry->size : 0;
    } else {
        s->n_files += op->kind == CP_PUT;
        s->n_dirs += op->kind == CP_MKDIR;
        s->n_links += op->kind == CP_LINK;
        s->bytes_done += op->kind == CP_PUT ? op->entry->size : 0;
    }
    s->n_in_flight--;
    free_op(s, op);
    smt_release(event->msg);
}

static void take_event(struct sender *s, const struct smt_event *event)
{
    switch (event->type) {
    case SMT_EV_RESPONSE:
        take_answer(s, event);
        break;
    case SMT_EV_FAILED:
        s->fatal = s->fatal != 0 ? s->fatal : event->error;
        break;
    case SMT_EV_SESSION_DOWN:
        s->fatal = s->fatal != 0 ? s->fatal : event->error != 0 ? event->error : SMT_ECLOSED;
        break;
    case SMT_EV_INCOMING: /* hashes of a very large file */
        if (smt_accept(event->msg, NULL, 0) != 0) {
            s->fatal = SMT_ENOMEM;
        }
        break;
    default:
        cp_device_event(event);
        break;
    }
}

static bool is_finished(struct sender *s)
{
    bool idle = s->n_in_flight == 0 && s->stalled == NULL && s->files == NULL;
    if (s->dirs_last) {
        return idle && s->next_entry == 0;
    }
    if (idle && s->next_entry == s->list.n) {
        s->dirs_last = true; /* all contents are there: directories get their modes and times */
        return s->list.n == 0;
    }
    return false;
}

static void run(struct sender *s)
{
    struct smt_event events[BATCH];
    s->start_ns = cp_now();
    while (s->fatal == 0 && !cp_stopped() && !is_finished(s)) {
        bool more = pump(s);
        int n = smt_poll(s->ep, events, BATCH);
        for (int i = 0; i < n; i++) {
            take_event(s, &events[i]);
        }
        int rc = n < 0 ? n : n > 0 || more ? 0 : smt_wait(s->ep, WAIT_MS * UINT64_C(1000000));
        if (rc < 0 && rc != SMT_EBUSY && rc != SMT_ETIMEDOUT) {
            s->fatal = rc;
        }
        if (!s->options->quiet) {
            progress_bar(s->bytes_done, s->list.bytes, s->n_files, s->start_ns);
        }
    }
    progress_erase();
}

static int connect_to(struct sender *s, const char *where, const char *dest)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    uint64_t deadline = (uint64_t)(s->options->deadline_s * 1e9);
    config.handshake_timeout_ns = deadline;
    config.bind_host = s->options->bind_host;
    int rc = smt_ep_open(s->ctx, &config, &s->ep);
    if (rc == 0) {
        rc = smt_connect_wait(s->ep, where, s->options->verify_name, 0, deadline, &s->session);
    }
    if (rc != 0) {
        cp_error("cannot connect to %s: %s", where, cp_reason(s->ctx, rc));
        return CP_CONNECTION;
    }
    uint8_t answer[600];
    char text[512];
    struct op *op = take_op(s, CP_HELLO, NULL);
    snprintf(s->request.path, sizeof(s->request.path), "%s", dest);
    op->head_len = cp_put_request(&s->request, op->head);
    int64_t len = smt_call_wait(s->session, op->head, op->head_len, answer, sizeof(answer),
                                deadline);
    free_op(s, op);
    if (len < 0) {
        cp_error("%s does not answer: %s", where, cp_reason(s->ctx, (int)len));
        return CP_CONNECTION;
    }
    rc = cp_get_answer(answer, (size_t)len, text, sizeof(text), NULL);
    if (rc != 0) {
        cp_error("%s: %s", dest, rc > 0 ? text : "this is not a server of smt_cp");
        return rc > 0 ? CP_ERRORS : CP_CONNECTION;
    }
    return CP_OK;
}

/* "." and "./a/" are "" and "a"; everything else is for the receiver to judge. */
static void copy_dest(const char *text, char dest[CP_PATH_MAX + 1])
{
    while (strncmp(text, "./", 2) == 0) {
        text += 2;
    }
    size_t len = strcmp(text, ".") == 0 ? 0 : strlen(text);
    while (len > 1 && text[len - 1] == '/') {
        len--;
    }
    memcpy(dest, text, len);
    dest[len] = '\0';
}

/* "host:dest", "host:port:dest", "[v6]:dest", "[v6]:port:dest" into where and dest. */
static int split_target(const struct cp_options *o, const char *target, char *where, size_t cap,
                        char dest[CP_PATH_MAX + 1])
{
    const char *end = target[0] == '[' ? strchr(target, ']') : strchr(target, ':');
    end = end != NULL && target[0] == '[' ? end + 1 : end;
    if (end == NULL || *end != ':' || end == target) {
        cp_error("%s: the target must be HOST:DIR or HOST:PORT:DIR", target);
        return -1;
    }
    const char *rest = end + 1;
    size_t digits = strspn(rest, "0123456789");
    unsigned long port = o->port;
    if (digits > 0 && rest[digits] == ':') {
        port = strtoul(rest, NULL, 10);
        rest += digits + 1;
    } else if (digits > 0 && rest[digits] == '\0') {
        cp_error("%s: port or directory? Say HOST:PORT: or HOST:PORT:DIR", target);
        return -1;
    }
    if (port == 0 || port > 65535 || strlen(rest) > CP_PATH_MAX) {
        cp_error("%s: port or directory not possible", target);
        return -1;
    }
    snprintf(where, cap, "%.*s:%lu", (int)(end - target), target, port);
    copy_dest(rest, dest);
    return 0;
}

static int alloc_ops(struct sender *s)
{
    for (unsigned i = 0; i < N_OPS; i++) {
        struct op *op = calloc(1, sizeof(*op));
        if (op == NULL) {
            return -1;
        }
        s->all_ops[i] = op;
        free_op(s, op);
    }
    return 0;
}

static void close_sender(struct sender *s, bool in_order)
{
    if (s->ep != NULL) {
        int rc = in_order ? smt_ep_drain(s->ep, UINT64_C(2000000000)) : 0;
        if (rc == 0) {
            rc = smt_ep_close(s->ep);
        } else if (smt_ep_close(s->ep) != 0) {
            cp_error("endpoint could not be closed");
        }
        if (rc != 0) {
            cp_error("closing: %s", smt_strerror(rc));
        }
    }
    while (s->files != NULL) {
        end_file(s, s->files);
    }
    for (unsigned i = 0; i < N_OPS; i++) {
        if (s->all_ops[i] != NULL) {
            free(s->all_ops[i]->data);
            free(s->all_ops[i]);
        }
    }
    list_free(&s->list);
}

static int report(const struct sender *s, const char *where)
{
    char total[32], sent[32];
    uint64_t errors = s->n_errors + s->list.n_errors;
    if (s->fatal != 0 || cp_stopped()) {
        cp_error("%s%s; run the same command again to resume",
                 s->fatal != 0 ? "connection lost: " : "interrupted",
                 s->fatal != 0 ? cp_reason(s->ctx, s->fatal) : "");
        return s->fatal != 0 ? CP_CONNECTION : CP_ERRORS;
    }
    printf("%llu files (%llu unchanged), %llu directories, %llu links to %s: %s, %s sent, in "
           "%.2f s; %llu errors\n",
           (unsigned long long)s->n_files, (unsigned long long)s->n_unchanged,
           (unsigned long long)s->n_dirs, (unsigned long long)s->n_links, where,
           progress_bytes((double)s->list.bytes, total, sizeof(total)),
           progress_bytes((double)s->bytes_sent, sent, sizeof(sent)),
           (double)(cp_now() - s->start_ns) / 1e9, (unsigned long long)errors);
    return errors == 0 ? CP_OK : CP_ERRORS;
}

int cp_send(const struct cp_options *o, struct smt_ctx *ctx, char **sources, int n_sources,
            const char *target)
{
    char where[320], dest[CP_PATH_MAX + 1];
    if (split_target(o, target, where, sizeof(where), dest) != 0) {
        return CP_USAGE;
    }
    struct sender *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        cp_error("out of memory");
        return CP_ERRORS;
    }
    s->options = o;
    s->ctx = ctx;
    int rc = CP_ERRORS;
    if (alloc_ops(s) != 0) {
        cp_error("out of memory");
    } else {
        rc = connect_to(s, where, dest);
    }
    if (rc == CP_OK) {
        for (int i = 0; i < n_sources && !cp_stopped(); i++) {
            if (list_add(&s->list, sources[i], dest) != 0) {
                rc = CP_ERRORS; /* said; the other sources are copied all the same */
            }
        }
        run(s);
        rc = report(s, where);
    }
    close_sender(s, rc != CP_CONNECTION);
    free(s);
    return rc;
}
