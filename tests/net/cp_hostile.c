/* A sender of smt_cp that means harm: every request whose path leads out of the served directory
 * must be refused. Run by test_cp.py, which looks at the disk afterwards. cp_hostile HOST:PORT
 * CERT KEY CA */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../examples/smt_cp/hash.h"
#include "../../examples/smt_cp/msg.h"

static const uint64_t patience = UINT64_C(20000000000);

static struct smt_session *session;
static int n_wrong;

static void ask(struct cp_request *request, const char *data, bool expect_refusal)
{
    static uint8_t bytes[CP_HEAD_MAX + 64];
    uint8_t answer[1024];
    char text[512] = "";
    request->size = strlen(data);
    if (hash_of(data, strlen(data), request->hash) != 0) {
        exit(1);
    }
    size_t len = cp_put_request(request, bytes);
    memcpy(bytes + len, data, strlen(data));
    int64_t got =
        smt_call_wait(session, bytes, len + strlen(data), answer, sizeof(answer), patience);
    int status = got < 0 ? -1 : cp_get_answer(answer, (size_t)got, text, sizeof(text), NULL);
    bool refused = status == 1 && text[0] != '\0';
    if (refused != expect_refusal || status < 0) {
        printf("op %d path '%s' target '%s': status %d '%s'\n", request->op, request->path,
               request->target, status, text);
        n_wrong++;
    }
}

static void try_paths(enum cp_op op, bool empty_is_fine)
{
    static const char *const paths[] = {
        "/evil",    "../evil", "a/../../evil", "..", "planted/evil",
        "a/./evil", "a//evil", "./evil",       "a/", "planted/../evil",
        ".",        ""};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct cp_request *request = calloc(1, sizeof(*request));
        if (request == NULL) {
            exit(1);
        }
        request->op = op;
        request->meta.mode = 0644;
        snprintf(request->path, sizeof(request->path), "%s", paths[i]);
        snprintf(request->target, sizeof(request->target), "inside");
        ask(request, "evil", paths[i][0] != '\0' || !empty_is_fine);
        free(request);
    }
}

static void try_links(void)
{
    static const char *const targets[] = {"/etc/passwd", "../../evil", "a/../../evil", "s/../../x",
                                          ""};
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        struct cp_request *request = calloc(1, sizeof(*request));
        if (request == NULL) {
            exit(1);
        }
        request->op = CP_LINK;
        snprintf(request->path, sizeof(request->path), "sub/link");
        snprintf(request->target, sizeof(request->target), "%s", targets[i]);
        ask(request, "", true);
        free(request);
    }
}

/* Files that are not open, lengths that lie, names of partial files, bytes that are no request. */
static void try_nonsense(void)
{
    static struct cp_request request;
    request = (struct cp_request){.op = CP_WRITE, .id = 7, .offset = UINT64_C(1) << 62};
    ask(&request, "evil", true);
    request = (struct cp_request){.op = CP_COMMIT, .id = 7};
    ask(&request, "", true);
    request = (struct cp_request){.op = CP_PUT, .path = ".smt_cp-00112233445566778899"};
    ask(&request, "evil", true);
    request = (struct cp_request){.op = CP_OPEN, .path = "planted"};
    ask(&request, "", false); /* a partial file beside the link; the link is not followed */
    request = (struct cp_request){.op = (enum cp_op)99};
    ask(&request, "", true);
}

int main(int argc, char **argv)
{
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    struct smt_ep_config ep_config = SMT_EP_CONFIG_INIT;
    struct smt_ctx *ctx;
    struct smt_ep *ep;
    if (argc != 5) {
        return 2;
    }
    config.cert_file = argv[2];
    config.key_file = argv[3];
    config.ca_file = argv[4];
    if (smt_ctx_open(&config, &ctx) != 0 || smt_ep_open(ctx, &ep_config, &ep) != 0 ||
        smt_connect_wait(ep, argv[1], NULL, 0, patience, &session) != 0) {
        printf("cannot connect\n");
        return 2;
    }
    try_paths(CP_HELLO, true);
    try_paths(CP_PUT, false);
    try_paths(CP_OPEN, false);
    try_paths(CP_MKDIR, true);
    try_paths(CP_SETDIR, true);
    try_paths(CP_LINK, false);
    try_links();
    try_nonsense();
    int closed = smt_ep_close(ep);
    return closed == 0 && smt_ctx_close(ctx) == 0 && n_wrong == 0 ? 0 : 1;
}
