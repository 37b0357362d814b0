/* A fuzz target without libFuzzer: runs every file of a corpus, then inputs mutated from them. The
 * same seed gives the same inputs, so a failure is repeated by its seed and number alone; the input
 * goes to standard error as hex.
 *
 * fuzz_hdr CORPUS_DIR [N_INPUTS [SEED [SECONDS]]]
 *
 * Each input lies in an allocation of its own length, for ASan. Without coverage feedback it
 * finds what lies near the corpus; `-Dfuzzers=true` with clang builds the same targets for
 * libFuzzer. */
#include "fuzz.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FILES = 256, MAX_LEN = 4096, MAX_EDITS = 8 };

struct input {
    uint8_t *p;
    size_t len;
};

static struct input corpus[MAX_FILES];
static unsigned n_corpus;

/* What runs now, for the handler. */
static struct input current;
static unsigned long current_number;

static uint64_t rng_state;

static uint64_t rng(void)
{
    uint64_t z = rng_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static size_t below(size_t n)
{
    return n ? (size_t)(rng() % n) : 0;
}

static void die(const char *what, const char *name)
{
    fprintf(stderr, "fuzz: %s: %s\n", what, name);
    exit(2);
}

static void say_input(int sig)
{
    fprintf(stderr, "fuzz: signal %d in input %lu, %zu bytes:\n", sig, current_number, current.len);
    for (size_t i = 0; i < current.len; i++)
        fprintf(stderr, "%02x", current.p[i]);
    fprintf(stderr, "\n");
    signal(sig, SIG_DFL);
    raise(sig);
}

static void run(const uint8_t *p, size_t len)
{
    uint8_t *exact = malloc(len ? len : 1);
    if (!exact)
        die("out of memory", "input");
    if (len)
        memcpy(exact, p, len);
    current = (struct input){exact, len};
    current_number++;
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
}

static void file_load(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t buf[MAX_LEN];
    if (!f)
        die("cannot open", path);
    size_t len = fread(buf, 1, sizeof(buf), f);
    if (ferror(f))
        die("cannot read", path);
    fclose(f);
    struct input *in = &corpus[n_corpus++];
    in->len = len;
    in->p = malloc(len ? len : 1);
    if (!in->p)
        die("out of memory", path);
    memcpy(in->p, buf, len);
}

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* In order of name, so that a seed means the same everywhere. */
static void corpus_load(const char *dir)
{
    struct dirent **names;
    int n = scandir(dir, &names, not_hidden, alphasort);
    if (n <= 0)
        die("no corpus in", dir);
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
        if (n_corpus < MAX_FILES)
            file_load(path);
        free(names[i]);
    }
    free(names);
}

static void edit(uint8_t *p, size_t *len)
{
    static const uint8_t edges[] = {0x00, 0x01, 0x3f, 0x40, 0x7f, 0x80, 0xfe, 0xff};
    size_t at = below(*len);
    const struct input *other = &corpus[below(n_corpus)];
    switch (rng() % 7) {
    case 0:
        if (*len)
            p[at] ^= (uint8_t)(1 << below(8));
        break;
    case 1:
        if (*len)
            p[at] = edges[below(sizeof(edges))];
        break;
    case 2:
        if (*len)
            p[at] = (uint8_t)rng();
        break;
    case 3: /* cut */
        *len = at;
        break;
    case 4: /* grow by noise or zeros */
        for (size_t n = below(80), zero = rng() & 1; n > 0 && *len < MAX_LEN; n--)
            p[(*len)++] = zero ? 0 : (uint8_t)rng();
        break;
    case 5: { /* splice the tail of another */
        size_t from = below(other->len);
        size_t n = other->len - from;
        if (n > MAX_LEN - at)
            n = MAX_LEN - at;
        memcpy(p + at, other->p + from, n);
        *len = at + n;
        break;
    }
    default: /* take a piece out */
        if (*len) {
            size_t n = 1 + below(*len - at < 9 ? *len - at : 9);
            memmove(p + at, p + at + n, *len - at - n);
            *len -= n;
        }
        break;
    }
}

static unsigned long mutate(unsigned long n_inputs, time_t seconds)
{
    time_t end = time(NULL) + seconds;
    unsigned long n = 0;
    for (; n < n_inputs && (n % 1024 || time(NULL) <= end); n++) {
        uint8_t p[MAX_LEN];
        const struct input *from = &corpus[below(n_corpus)];
        size_t len = from->len;
        memcpy(p, from->p, len);
        for (size_t edits = 1 + below(MAX_EDITS); edits > 0; edits--)
            edit(p, &len);
        run(p, len);
    }
    return n;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        die("usage", "CORPUS_DIR [N_INPUTS [SEED [SECONDS]]]");
    unsigned long n_inputs = argc > 2 ? strtoul(argv[2], NULL, 0) : 100000;
    rng_state = argc > 3 ? strtoull(argv[3], NULL, 0) : 1;
    time_t seconds = argc > 4 ? (time_t)strtoul(argv[4], NULL, 0) : 3600;
    signal(SIGABRT, say_input);
    signal(SIGSEGV, say_input);
    corpus_load(argv[1]);
    for (unsigned i = 0; i < n_corpus; i++)
        run(corpus[i].p, corpus[i].len);
    run(NULL, 0);
    unsigned long n = mutate(n_inputs, seconds);
    printf("%u corpus files, %lu mutated inputs\n", n_corpus, n);
    for (unsigned i = 0; i < n_corpus; i++)
        free(corpus[i].p);
    return 0;
}
