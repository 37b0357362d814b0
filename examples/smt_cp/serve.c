/* The receiving side. Requests are served from the event; only hashing, which takes long for
 * large files, is cut into blocks between polls, so that no session falls silent. A peer that
 * comes back for a file takes it over from its former self. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cp.h"
#include "hash.h"
#include "msg.h"
#include "path.h"
#include "store.h"

enum {
    BATCH = 64,
    WAIT_MS = 100,
    MAX_OPEN = 256,           /* files of one session */
    DOWN_LINE_EVERY_MS = 200, /* strangers must not fill the log */
};

/* A request that is answered after its file has been read. */
struct job {
    struct job *next;
    struct smt_msg *request;
    struct store_file *file;
    struct cp_meta meta;            /* COMMIT */
    uint8_t expected[CP_HASH_LEN];
    EVP_MD_CTX *hash;               /* COMMIT: of all; NULL for OPEN */
    uint8_t *blocks;                /* OPEN: one hash per block */
    size_t n_blocks;
    uint64_t len, at;
};

/* An answer on its way; its bytes are lent until it has arrived, or the endpoint is closed. */
struct reply {
    struct reply *next, **link;
    uint8_t *bytes;
};

/* A session and the files it has open. */
struct peer {
    struct peer *next;
    struct store_file *files;
    struct job *jobs;
    uint64_t next_id;
    unsigned n_files;
    bool greeted; /* said HELLO: a sender, not a failed handshake */
};

struct server {
    const struct cp_options *options;
    struct smt_ctx *ctx;
    struct smt_ep *ep;
    int root;
    struct peer *peers;
    struct reply *replies;
    bool done;
    uint64_t next_down_line;
    uint8_t *block; /* scratch: CP_BLOCK */
    struct cp_request request;
};

static void free_reply(struct reply *reply)
{
    if (reply == NULL) {
        return;
    }
    *reply->link = reply->next;
    if (reply->next != NULL) {
        reply->next->link = reply->link;
    }
    free(reply->bytes);
    free(reply);
}

/* Takes `bytes`; NULL, there was no memory. */
static struct reply *new_reply(struct server *s, uint8_t *bytes)
{
    struct reply *reply = bytes != NULL ? malloc(sizeof(*reply)) : NULL;
    if (reply == NULL) {
        free(bytes);
        return NULL;
    }
    *reply = (struct reply){.next = s->replies, .link = &s->replies, .bytes = bytes};
    if (s->replies != NULL) {
        s->replies->link = &reply->next;
    }
    s->replies = reply;
    return reply;
}

static void answer(struct server *s, struct smt_msg *request, uint8_t *bytes, size_t len)
{
    struct smt_iov iov = {.base = bytes, .len = len};
    struct reply *reply = new_reply(s, bytes);
    int rc = reply == NULL ? smt_reject(request) : smt_reply(request, &iov, 1, reply);
    if (rc != 0) {
        free_reply(reply);
        if (rc != SMT_ECLOSED) {
            cp_error("answer: %s", cp_reason(s->ctx, rc));
        }
    }
    smt_release(request);
}

/* NULL: success. The answer's memory is freed when it has arrived. */
static void answer_text(struct server *s, struct smt_msg *request, const char *text)
{
    size_t cap = text == NULL ? 1 : strlen(text) + 1;
    uint8_t *bytes = calloc(1, cap);
    size_t len = 1;
    if (bytes != NULL && text != NULL) {
        len = cp_put_error(text, bytes, cap);
    }
    answer(s, request, bytes, len);
}

static void end_file(struct peer *peer, struct store_file *file)
{
    for (struct store_file **link = &peer->files; *link != NULL; link = &(*link)->next) {
        if (*link == file) {
            *link = file->next;
            peer->n_files--;
            store_close(file);
            return;
        }
    }
}

static struct store_file *find_file(struct peer *peer, uint64_t id)
{
    struct store_file *file = peer->files;
    while (file != NULL && file->id != id) {
        file = file->next;
    }
    return file;
}

static void free_job(struct job *job)
{
    uint8_t unused[CP_HASH_LEN];
    if (job->hash != NULL && hash_end(job->hash, unused) != 0) {
        cp_error("SHA-256 failed");
    }
    free(job->blocks);
    free(job);
}

static void add_job(struct peer *peer, struct job *job)
{
    job->next = peer->jobs;
    peer->jobs = job;
    job->file->busy = true;
}

static void finish_open(struct server *s, struct job *job)
{
    struct cp_have have = {.id = job->file->id,
                           .len = job->len,
                           .is_final = job->file->is_final,
                           .hashes = job->blocks,
                           .n_hashes = job->n_blocks};
    size_t len = cp_have_size(job->n_blocks);
    uint8_t *bytes = malloc(len);
    if (bytes != NULL) {
        cp_put_have(&have, bytes);
    }
    answer(s, job->request, bytes, len);
}

static void finish_commit(struct server *s, struct peer *peer, struct job *job)
{
    uint8_t hash[CP_HASH_LEN];
    const char *text = NULL;
    int rc = hash_end(job->hash, hash);
    job->hash = NULL;
    if (rc != 0 || memcmp(hash, job->expected, sizeof(hash)) != 0) {
        text = "SHA-256 of the whole file is another";
    } else {
        text = store_finish(job->file, &job->meta);
    }
    answer_text(s, job->request, text);
    end_file(peer, job->file);
}

/* One block of one job; true when the job is over. */
static bool run_job(struct server *s, struct peer *peer, struct job *job)
{
    if (job->at < job->len) {
        uint64_t left = job->len - job->at;
        size_t want = left < CP_BLOCK ? (size_t)left : CP_BLOCK;
        ssize_t n = pread(job->file->fd, s->block, want, (off_t)job->at);
        int rc = n == (ssize_t)want ? 0 : -1;
        if (rc == 0 && job->hash != NULL) {
            rc = hash_more(job->hash, s->block, want);
        } else if (rc == 0) {
            rc = hash_of(s->block, want, job->blocks + job->at / CP_BLOCK * CP_HASH_LEN);
        }
        if (rc != 0) {
            answer_text(s, job->request, "cannot read the file back");
            end_file(peer, job->file);
            return true;
        }
        job->at += want;
    }
    if (job->at < job->len) {
        return false;
    }
    job->file->busy = false;
    if (job->hash != NULL) {
        finish_commit(s, peer, job);
    } else {
        finish_open(s, job);
    }
    return true;
}

static bool run_jobs(struct server *s)
{
    bool any = false;
    for (struct peer *peer = s->peers; peer != NULL; peer = peer->next) {
        struct job **link = &peer->jobs;
        while (*link != NULL) {
            struct job *job = *link;
            any = true;
            if (run_job(s, peer, job)) {
                *link = job->next;
                free_job(job);
            } else {
                link = &job->next;
            }
        }
    }
    return any;
}

static void drop_jobs(struct server *s, struct peer *peer, const struct store_file *file)
{
    for (struct job **link = &peer->jobs; *link != NULL;) {
        struct job *job = *link;
        if (file != NULL && job->file != file) {
            link = &job->next;
            continue;
        }
        *link = job->next;
        answer_text(s, job->request, "taken over by a newer copy");
        free_job(job);
    }
}

/* The newest sender of a path wins; its former self may be a killed process. */
static void take_over(struct server *s, const char *path)
{
    const char *name;
    int dir = path_parent(s->root, path, false, &name);
    if (dir < 0) {
        return;
    }
    for (struct peer *peer = s->peers; peer != NULL; peer = peer->next) {
        for (struct store_file *f = peer->files, *next; f != NULL; f = next) {
            next = f->next;
            if (strcmp(f->name, name) == 0 && path_same_dir(f->dir, dir)) {
                drop_jobs(s, peer, f);
                end_file(peer, f);
            }
        }
    }
    close(dir);
}

static void open_file(struct server *s, struct peer *peer, struct smt_msg *request)
{
    struct store_file *file = NULL;
    const char *text = path_fault(s->request.path);
    if (text == NULL && peer->n_files >= MAX_OPEN) {
        text = "too many open files";
    }
    if (text == NULL) {
        take_over(s, s->request.path);
        text = store_open(s->root, &s->request, &file);
    }
    if (text != NULL) {
        answer_text(s, request, text);
        return;
    }
    struct job *job = calloc(1, sizeof(*job));
    uint64_t len = store_have(file);
    size_t n_blocks = (size_t)((len + CP_BLOCK - 1) / CP_BLOCK);
    uint8_t *blocks = calloc(n_blocks + 1, CP_HASH_LEN);
    if (job == NULL || blocks == NULL) {
        free(job);
        free(blocks);
        store_close(file);
        answer_text(s, request, "out of memory");
        return;
    }
    file->id = peer->next_id++;
    file->next = peer->files;
    peer->files = file;
    peer->n_files++;
    *job = (struct job){
        .request = request, .file = file, .blocks = blocks, .n_blocks = n_blocks, .len = len};
    add_job(peer, job);
}

static void commit(struct server *s, struct peer *peer, struct smt_msg *request)
{
    struct store_file *file = find_file(peer, s->request.id);
    if (file == NULL || file->busy) {
        answer_text(s, request, "no such open file");
        return;
    }
    if (store_have(file) != s->request.size || file->size != s->request.size) {
        answer_text(s, request, "the file's length is another");
        end_file(peer, file);
        return;
    }
    struct job *job = calloc(1, sizeof(*job));
    EVP_MD_CTX *hash = hash_begin();
    if (job == NULL || hash == NULL) {
        free(job);
        EVP_MD_CTX_free(hash);
        answer_text(s, request, "out of memory");
        return;
    }
    *job = (struct job){.request = request,
                        .file = file,
                        .meta = s->request.meta,
                        .hash = hash,
                        .len = s->request.size};
    memcpy(job->expected, s->request.hash, sizeof(job->expected));
    add_job(peer, job);
}

static const char *write_block(struct server *s, struct peer *peer)
{
    struct store_file *file = find_file(peer, s->request.id);
    return file == NULL ? "no such open file"
                        : store_write(file, s->request.offset, s->request.data,
                                      s->request.data_len);
}

static struct peer *peer_of(struct server *s, struct smt_session *session)
{
    struct peer *peer = smt_session_user(session);
    if (peer == NULL && (peer = calloc(1, sizeof(*peer))) != NULL) {
        peer->next = s->peers;
        s->peers = peer;
        smt_session_set_user(session, peer);
    }
    return peer;
}

static void take_request(struct server *s, const struct smt_event *event)
{
    struct cp_request *r = &s->request;
    struct peer *peer = peer_of(s, event->session);
    const char *text = "not understood: other version of smt_cp?";
    if (peer == NULL) {
        answer(s, event->msg, NULL, 0);
        return;
    }
    if (cp_get_request(event->data, event->len, r) == 0) {
        switch (r->op) {
        case CP_HELLO:
            peer->greeted = true;
            text = store_mkdir(s->root, r->path);
            break;
        case CP_PUT:
            text = store_put(s->root, r);
            break;
        case CP_OPEN:
            open_file(s, peer, event->msg);
            return;
        case CP_WRITE:
            text = write_block(s, peer);
            break;
        case CP_COMMIT:
            commit(s, peer, event->msg);
            return;
        case CP_ABORT: {
            struct store_file *file = find_file(peer, r->id);
            if (file != NULL) {
                drop_jobs(s, peer, file);
                end_file(peer, file);
            }
            text = NULL;
            break;
        }
        case CP_MKDIR:
            text = store_mkdir(s->root, r->path);
            break;
        case CP_SETDIR:
            text = store_setdir(s->root, r->path, &r->meta);
            break;
        case CP_LINK:
            text = store_link(s->root, r->path, r->target, s->options->all_links);
            break;
        }
    }
    answer_text(s, event->msg, text);
}

static void take_up(const struct smt_event *event)
{
    struct smt_session_info info = {.size = sizeof(info)};
    if (smt_session_get_info(event->session, &info) == 0) {
        printf("sender %s %s\n", info.peer, info.identity);
        fflush(stdout);
    }
}

static void free_peer(struct server *s, struct peer *peer)
{
    drop_jobs(s, peer, NULL);
    while (peer->files != NULL) {
        end_file(peer, peer->files);
    }
    for (struct peer **link = &s->peers; *link != NULL; link = &(*link)->next) {
        if (*link == peer) {
            *link = peer->next;
            break;
        }
    }
    free(peer);
}

static void take_down(struct server *s, const struct smt_event *event)
{
    struct peer *peer = smt_session_user(event->session);
    uint64_t now = cp_now();
    if (event->error != 0 && (peer != NULL || now >= s->next_down_line)) {
        cp_error("session ended: %s", cp_reason(s->ctx, event->error));
        s->next_down_line = now + DOWN_LINE_EVERY_MS * UINT64_C(1000000);
    }
    if (peer != NULL) {
        s->done = s->done || (s->options->once && peer->greeted);
        smt_session_set_user(event->session, NULL);
        free_peer(s, peer);
    }
}

static void take_event(struct server *s, const struct smt_event *event)
{
    switch (event->type) {
    case SMT_EV_REQUEST:
        take_request(s, event);
        break;
    case SMT_EV_SENT:
    case SMT_EV_FAILED:
        free_reply(event->user);
        break;
    case SMT_EV_MESSAGE:
        smt_release(event->msg);
        break;
    case SMT_EV_INCOMING: /* no message of ours is that large */
        if (smt_reject(event->msg) != 0) {
            cp_error("an oversized message could not be refused");
        }
        break;
    case SMT_EV_SESSION_UP:
        take_up(event);
        break;
    case SMT_EV_SESSION_DOWN:
        take_down(s, event);
        break;
    default:
        cp_device_event(event);
        break;
    }
}

static int run(struct server *s)
{
    struct smt_event events[BATCH];
    while (!cp_stopped() && !s->done) {
        int n = smt_poll(s->ep, events, BATCH);
        for (int i = 0; i < n; i++) {
            take_event(s, &events[i]);
        }
        bool busy = run_jobs(s);
        int rc = n < 0 ? n : n > 0 || busy ? 0 : smt_wait(s->ep, WAIT_MS * UINT64_C(1000000));
        if (rc < 0 && rc != SMT_EBUSY && rc != SMT_ETIMEDOUT) {
            cp_error("%s", cp_reason(s->ctx, rc));
            return CP_ERRORS;
        }
    }
    return CP_OK;
}

static int listen_on(struct server *s)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.bind_host = s->options->bind_host;
    config.port = s->options->port;
    config.accept = 1;
    config.idle_timeout_ns = UINT64_C(600) * 1000000000; /* senders that vanished without a word */
    int rc = smt_ep_open(s->ctx, &config, &s->ep);
    if (rc != 0) {
        cp_error("cannot listen on port %u: %s", s->options->port, cp_reason(s->ctx, rc));
        return CP_CONNECTION;
    }
    printf("smt_cp %s: serving on port %u\n", smt_version(), smt_ep_port(s->ep));
    fflush(stdout);
    return CP_OK;
}

static void shut(struct server *s)
{
    struct smt_event events[BATCH];
    int rc = smt_ep_drain(s->ep, UINT64_C(1000000000));
    if (rc != 0 && rc != SMT_ETIMEDOUT) {
        cp_error("closing: %s", smt_strerror(rc));
    }
    for (int n; (n = smt_poll(s->ep, events, BATCH)) > 0;) {
        for (int i = 0; i < n; i++) {
            take_event(s, &events[i]);
        }
    }
    while (s->peers != NULL) {
        free_peer(s, s->peers);
    }
    rc = smt_ep_close(s->ep);
    if (rc != 0) {
        cp_error("closing: %s", smt_strerror(rc));
    }
    while (s->replies != NULL) { /* to senders that vanished: no event came */
        free_reply(s->replies);
    }
}

int cp_serve(const struct cp_options *o, struct smt_ctx *ctx, const char *dir)
{
    struct server *s = calloc(1, sizeof(*s));
    uint8_t *block = malloc(CP_BLOCK);
    int rc = CP_ERRORS;
    if (s == NULL || block == NULL) {
        cp_error("out of memory");
        free(s);
        free(block);
        return rc;
    }
    *s = (struct server){.options = o, .ctx = ctx, .block = block};
    s->root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->root < 0) {
        cp_error("%s: %s", dir, strerror(errno));
        rc = CP_USAGE;
    } else {
        rc = listen_on(s);
        if (rc == CP_OK) {
            rc = run(s);
            shut(s);
        }
        close(s->root);
    }
    free(block);
    free(s);
    return rc;
}
