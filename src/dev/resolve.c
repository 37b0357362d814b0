/* Addresses: from what people write to struct smt_addr and back, and to the kernel's form.
 *
 * Owns the grammar "host", "host:port", "[v6]:port" and bare IPv6. Numbers never reach the
 * resolver; names are left to getaddrinfo, which also orders the answers (RFC 6724). "localhost"
 * also works where nothing resolves it: a bare system has no /etc/hosts. */
#include "dev/dev_impl.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum { MAX_HOST = 256 };

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

unsigned smt_addr_to_sockaddr(const struct smt_addr *addr, bool as_ipv6,
                              struct sockaddr_storage *out)
{
    if (!as_ipv6 && smt_addr_is_ipv4(addr)) {
        struct sockaddr_in *in = (struct sockaddr_in *)out;
        *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(addr->port)};
        memcpy(&in->sin_addr, addr->ip + 12, 4);
        return sizeof(*in);
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    *in6 = (struct sockaddr_in6){
        .sin6_family = AF_INET6,
        .sin6_port = htons(addr->port),
        .sin6_scope_id = addr->scope,
    };
    memcpy(&in6->sin6_addr, addr->ip, 16);
    return sizeof(*in6);
}

bool smt_addr_from_sockaddr(const struct sockaddr_storage *sa, struct smt_addr *out)
{
    *out = (struct smt_addr){0};
    if (sa->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
        memcpy(out->ip, v4_prefix, sizeof(v4_prefix));
        memcpy(out->ip + 12, &in->sin_addr, 4);
        out->port = ntohs(in->sin_port);
        return true;
    }
    if (sa->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
        memcpy(out->ip, &in6->sin6_addr, 16);
        out->port = ntohs(in6->sin6_port);
        if (IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr))
            out->scope = in6->sin6_scope_id;
        return true;
    }
    return false;
}

/* 1 … 65535, digits only. */
static bool port_parse(const char *text, uint16_t *port)
{
    uint32_t v = 0;
    size_t n = 0;
    for (; text[n] >= '0' && text[n] <= '9' && n < 6; n++)
        v = v * 10 + (uint32_t)(text[n] - '0');
    if (n == 0 || text[n] != '\0' || v == 0 || v > 65535)
        return false;
    *port = (uint16_t)v;
    return true;
}

/* Splits into host and port; `bracketed` hosts can only be IPv6. False when malformed. */
static bool host_split(const char *text, char host[MAX_HOST], uint16_t *port, bool *is_ipv6)
{
    const char *start = text;
    const char *end = text + strlen(text);
    const char *colon = strrchr(text, ':');
    *is_ipv6 = false;
    if (text[0] == '[') {
        const char *bracket = strchr(text, ']');
        if (bracket == NULL)
            return false;
        start = text + 1;
        end = bracket;
        *is_ipv6 = true;
        colon = bracket + 1;
        if (*colon != '\0' && *colon != ':')
            return false;
        if (*colon == '\0')
            colon = NULL;
    } else if (colon != NULL && strchr(text, ':') != colon) {
        *is_ipv6 = true;
        colon = NULL;
    } else if (colon != NULL) {
        end = colon;
    }
    size_t len = (size_t)(end - start);
    if (len == 0 || len >= MAX_HOST)
        return false;
    memcpy(host, start, len);
    host[len] = '\0';
    return colon == NULL || port_parse(colon + 1, port);
}

static bool ipv4_parse(const char *host, struct smt_addr *out)
{
    if (inet_pton(AF_INET, host, out->ip + 12) != 1)
        return false;
    memcpy(out->ip, v4_prefix, sizeof(v4_prefix));
    return true;
}

/* With an optional zone, "fe80::1%eth0" or "fe80::1%2". A zone that does not exist is an error. */
static bool ipv6_parse(char *host, struct smt_addr *out)
{
    char *zone = strchr(host, '%');
    if (zone != NULL)
        *zone++ = '\0';
    if (inet_pton(AF_INET6, host, out->ip) != 1)
        return false;
    if (zone == NULL)
        return true;
    uint32_t scope = if_nametoindex(zone);
    if (scope == 0) {
        uint16_t number;
        if (!port_parse(zone, &number))
            return false;
        scope = number;
    }
    struct in6_addr a;
    memcpy(&a, out->ip, 16);
    out->scope = IN6_IS_ADDR_LINKLOCAL(&a) ? scope : 0;
    return true;
}

/* "localhost" and what ends in ".localhost" is the loopback (RFC 6761, 6.3). */
static bool name_is_loopback(const char *host)
{
    static const char word[] = "localhost";
    size_t len = strlen(host), word_len = sizeof(word) - 1;
    if (len < word_len || strcasecmp(host + len - word_len, word) != 0)
        return false;
    return len == word_len || (len > word_len + 1 && host[len - word_len - 1] == '.');
}

/* IPv4 first: a machine may be without IPv6. */
static int loopback_fill(uint16_t port, struct smt_addr *out, unsigned n)
{
    out[0] = (struct smt_addr){.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    out[0].port = port;
    if (n == 1)
        return 1;
    out[1] = (struct smt_addr){.ip = {[15] = 1}};
    out[1].port = port;
    return 2;
}

static int name_resolve(const char *host, uint16_t port, struct smt_addr *out, unsigned n)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM};
    struct addrinfo *list;
    if (getaddrinfo(host, NULL, &hints, &list) != 0)
        return name_is_loopback(host) ? loopback_fill(port, out, n) : SMT_ENAME;
    unsigned got = 0;
    for (const struct addrinfo *ai = list; ai != NULL && got < n; ai = ai->ai_next) {
        struct sockaddr_storage sa = {0};
        if (ai->ai_addrlen > sizeof(sa))
            continue;
        memcpy(&sa, ai->ai_addr, ai->ai_addrlen);
        if (!smt_addr_from_sockaddr(&sa, &out[got]))
            continue;
        out[got].port = port;
        bool is_new = true;
        for (unsigned i = 0; i < got; i++)
            is_new = is_new && !smt_addr_equal(&out[i], &out[got]);
        if (is_new)
            got++;
    }
    freeaddrinfo(list);
    return got > 0 ? (int)got : SMT_ENAME;
}

int smt_dev_resolve(const char *host, uint16_t default_port, struct smt_addr *out, unsigned n)
{
    char name[MAX_HOST];
    uint16_t port = default_port;
    bool is_ipv6;
    if (host == NULL || n == 0 || !host_split(host, name, &port, &is_ipv6))
        return SMT_ENAME;
    struct smt_addr addr = {.port = port};
    if (is_ipv6 ? ipv6_parse(name, &addr) : ipv4_parse(name, &addr)) {
        out[0] = addr;
        return 1;
    }
    return is_ipv6 ? SMT_ENAME : name_resolve(name, port, out, n);
}

void smt_dev_addr_text(const struct smt_addr *addr, char *out, size_t out_len)
{
    char ip[INET6_ADDRSTRLEN];
    if (smt_addr_is_ipv4(addr)) {
        inet_ntop(AF_INET, addr->ip + 12, ip, sizeof(ip));
        snprintf(out, out_len, "%s:%u", ip, addr->port);
        return;
    }
    inet_ntop(AF_INET6, addr->ip, ip, sizeof(ip));
    char zone[IF_NAMESIZE] = "";
    if (addr->scope != 0 && if_indextoname(addr->scope, zone) == NULL)
        snprintf(zone, sizeof(zone), "%u", addr->scope);
    snprintf(out, out_len, "[%s%s%s]:%u", ip, zone[0] != '\0' ? "%" : "", zone, addr->port);
}
