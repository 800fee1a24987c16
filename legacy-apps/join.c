/* join: joins a group, receives its datagrams, writes or checks them.
 *
 *   join [-S SOURCE] [-g] [-i IFACE] [-m recv|recvmsg|poll] [-b RCVBUF] [-a]
 *        [-o FILE | -k] [-w SECONDS] [-n COUNT] [-p] GROUP PORT
 *
 * -S joins that source only; -g takes the protocol-independent MCAST_JOIN_* in
 * place of IP_ADD_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP or IPV6_JOIN_GROUP (IPv6
 * with a source always takes it); -m says which call receives; -a binds to any
 * address instead of the group; -o writes the payloads (default: standard
 * output), -k checks the numbered stream of stream.h; -p prints each new source.
 * Ends on SIGTERM or SIGINT, after SECONDS without a datagram (once one came),
 * or after COUNT. A GROUP that is a host's address is bound to, not joined.
 *
 * Promises: with -k ends with one line "received N, lost N, ..." on standard
 * output, and status 0 whatever was lost: the line is the result. "lost" counts
 * numbers missing between the first and the last one. Is not a recorder: order
 * and loss are reported, not repaired.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream.h"

/* Numbers above this are refused: one bit each is kept, to know those seen twice. */
#define HIGHEST ((uint64_t)1 << 28)

enum method { RECV, RECVMSG, POLL };

struct tally {
    uint64_t received, distinct, twice, reordered, foreign, first, last;
    int64_t latest_arrival, longest_gap;
    unsigned char *seen;
};

static volatile sig_atomic_t stopped;

static void stop(int signal_number) {
    (void)signal_number;
    stopped = 1;
}

static long number(const char *text, long least, long most, char option) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < least || value > most)
        errx(2, "-%c %s: expected a number from %ld to %ld", option, text, least, most);
    return value;
}

static struct addrinfo *resolve(const char *host, const char *port) {
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *found;
    int failure = getaddrinfo(host, port, &hints, &found);
    if (failure)
        errx(1, "%s: %s", host, gai_strerror(failure));
    return found;
}

static int is_group(const struct sockaddr *a) {
    if (a->sa_family == AF_INET)
        return IN_MULTICAST(ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr));
    return IN6_IS_ADDR_MULTICAST(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static void join_group(int fd, struct addrinfo *group, struct addrinfo *source, int generic,
                       unsigned index) {
    int level = group->ai_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    if (source && (generic || level == IPPROTO_IPV6)) {
        struct group_source_req r = {.gsr_interface = index};
        memcpy(&r.gsr_group, group->ai_addr, group->ai_addrlen);
        memcpy(&r.gsr_source, source->ai_addr, source->ai_addrlen);
        if (setsockopt(fd, level, MCAST_JOIN_SOURCE_GROUP, &r, sizeof r))
            err(1, "MCAST_JOIN_SOURCE_GROUP");
    } else if (generic) {
        struct group_req r = {.gr_interface = index};
        memcpy(&r.gr_group, group->ai_addr, group->ai_addrlen);
        if (setsockopt(fd, level, MCAST_JOIN_GROUP, &r, sizeof r))
            err(1, "MCAST_JOIN_GROUP");
    } else if (level == IPPROTO_IPV6) {
        struct ipv6_mreq r = {.ipv6mr_multiaddr = ((struct sockaddr_in6 *)group->ai_addr)->sin6_addr,
                              .ipv6mr_interface = index};
        if (setsockopt(fd, level, IPV6_JOIN_GROUP, &r, sizeof r))
            err(1, "IPV6_JOIN_GROUP");
    } else if (source) {
        /* This request names its interface by address; ANY lets the routes decide. */
        struct ip_mreq_source r = {
            .imr_multiaddr = ((struct sockaddr_in *)group->ai_addr)->sin_addr,
            .imr_sourceaddr = ((struct sockaddr_in *)source->ai_addr)->sin_addr};
        if (setsockopt(fd, level, IP_ADD_SOURCE_MEMBERSHIP, &r, sizeof r))
            err(1, "IP_ADD_SOURCE_MEMBERSHIP");
    } else {
        struct ip_mreqn r = {.imr_multiaddr = ((struct sockaddr_in *)group->ai_addr)->sin_addr,
                             .imr_ifindex = (int)index};
        if (setsockopt(fd, level, IP_ADD_MEMBERSHIP, &r, sizeof r))
            err(1, "IP_ADD_MEMBERSHIP");
    }
}

static ssize_t receive(int fd, enum method how, unsigned char *to, size_t room,
                       struct sockaddr_storage *from) {
    socklen_t from_length = sizeof *from;
    from->ss_family = AF_UNSPEC;
    if (how == RECV)
        return recv(fd, to, room, 0);
    if (how == RECVMSG) {
        struct iovec part = {to, room};
        struct msghdr m = {.msg_name = from, .msg_namelen = from_length, .msg_iov = &part,
                           .msg_iovlen = 1};
        return recvmsg(fd, &m, 0);
    }
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int ready = poll(&p, 1, 200);
    if (ready <= 0) {
        if (!ready)
            errno = EAGAIN;
        return -1;
    }
    return recvfrom(fd, to, room, 0, (struct sockaddr *)from, &from_length);
}

static void count(struct tally *t, const unsigned char *payload, size_t length) {
    int64_t now = stream_now();
    uint64_t n = length < STREAM_NUMBER_SIZE ? HIGHEST : stream_get(payload);
    if (n >= HIGHEST) {
        t->foreign++;
        return;
    }
    if (t->received && now - t->latest_arrival > t->longest_gap)
        t->longest_gap = now - t->latest_arrival;
    t->latest_arrival = now;
    unsigned char bit = (unsigned char)(1u << (n & 7));
    if (t->seen[n >> 3] & bit) {
        t->twice++;
    } else {
        t->seen[n >> 3] |= bit;
        t->reordered += t->distinct && n < t->last;
        t->first = t->distinct && t->first < n ? t->first : n;
        t->last = t->distinct && t->last > n ? t->last : n;
        t->distinct++;
    }
    t->received++;
}

static void report(const struct tally *t) {
    uint64_t span = t->distinct ? t->last - t->first + 1 : 0;
    printf("received %" PRIu64 ", lost %" PRIu64 ", twice %" PRIu64 ", reordered %" PRIu64
           ", longest gap %" PRId64 " ms, first %" PRIu64 ", last %" PRIu64 ", foreign %" PRIu64 "\n",
           t->received, span - t->distinct, t->twice, t->reordered, t->longest_gap / 1000000,
           t->first, t->last, t->foreign);
}

static void print_source(const struct sockaddr_storage *from) {
    static struct sockaddr_storage previous;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (from->ss_family == AF_UNSPEC || !memcmp(from, &previous, sizeof previous))
        return;
    previous = *from;
    if (!getnameinfo((const struct sockaddr *)from, sizeof *from, host, sizeof host, port,
                     sizeof port, NI_NUMERICHOST | NI_NUMERICSERV))
        fprintf(stderr, "from %s port %s\n", host, port);
}

int main(int argc, char **argv) {
    const char *output = NULL, *iface = NULL, *source_name = NULL;
    int generic = 0, check = 0, any = 0, show_sources = 0, option;
    long buffer = 0, idle = 0, most = 0;
    enum method how = RECV;

    while ((option = getopt(argc, argv, "S:gi:m:b:ao:kw:n:p")) != -1) {
        switch (option) {
        case 'S': source_name = optarg; break;
        case 'g': generic = 1; break;
        case 'i': iface = optarg; break;
        case 'm':
            how = !strcmp(optarg, "recvmsg") ? RECVMSG : !strcmp(optarg, "poll") ? POLL : RECV;
            if (how == RECV && strcmp(optarg, "recv"))
                errx(2, "-m %s: expected recv, recvmsg or poll", optarg);
            break;
        case 'b': buffer = number(optarg, 1, 1 << 30, 'b'); break;
        case 'a': any = 1; break;
        case 'o': output = optarg; break;
        case 'k': check = 1; break;
        case 'w': idle = number(optarg, 1, 86400, 'w'); break;
        case 'n': most = number(optarg, 1, 1000000000, 'n'); break;
        case 'p': show_sources = 1; break;
        default: argc = 0;
        }
    }
    if (argc - optind != 2)
        errx(2, "usage: join [-S SOURCE] [-g] [-i IFACE] [-m recv|recvmsg|poll] [-b RCVBUF] [-a] "
                "[-o FILE | -k] [-w SECONDS] [-n COUNT] [-p] GROUP PORT");
    if (show_sources && how == RECV)
        errx(2, "-p: recv tells no source; add -m recvmsg or -m poll");

    struct addrinfo *group = resolve(argv[optind], argv[optind + 1]);
    struct addrinfo *source = source_name ? resolve(source_name, NULL) : NULL;
    if (source && source->ai_family != group->ai_family)
        errx(2, "-S %s: not of the family of %s", source_name, argv[optind]);
    unsigned index = iface ? if_nametoindex(iface) : 0;
    if (iface && !index)
        err(1, "interface %s", iface);

    int fd = socket(group->ai_family, SOCK_DGRAM, 0), on = 1;
    if (fd < 0)
        err(1, "socket");
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on))
        err(1, "SO_REUSEADDR");
    int bytes = (int)buffer;
    if (buffer && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes))
        err(1, "SO_RCVBUF %ld", buffer);
    struct addrinfo *at = group;
    if (any) {
        struct addrinfo hints = {.ai_family = group->ai_family, .ai_socktype = SOCK_DGRAM,
                                 .ai_flags = AI_PASSIVE};
        if (getaddrinfo(NULL, argv[optind + 1], &hints, &at))
            errx(1, "no address to bind to");
    }
    if (bind(fd, at->ai_addr, at->ai_addrlen))
        err(1, "bind port %s", argv[optind + 1]);
    if (is_group(group->ai_addr))
        join_group(fd, group, source, generic, index);
    /* Wakes a blocked receive, so that idle time and signals are noticed. */
    struct timeval wake = {.tv_usec = 200000};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wake, sizeof wake))
        err(1, "SO_RCVTIMEO");

    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);

    FILE *out = check ? NULL : output ? fopen(output, "wb") : stdout;
    if (!check && !out)
        err(1, "%s", output);
    struct tally tally = {0};
    if (check && !(tally.seen = calloc(1, HIGHEST / 8)))
        err(1, "memory");
    fprintf(stderr, "joined\n");

    static unsigned char payload[65536];
    struct sockaddr_storage from = {0};
    int64_t latest = 0;
    for (long n = 0; !stopped && (!most || n < most);) {
        ssize_t length = receive(fd, how, payload, sizeof payload, &from);
        if (length < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
                err(1, "receive");
            if (idle && latest && stream_now() - latest >= idle * 1000000000)
                break;
            continue;
        }
        latest = stream_now();
        n++;
        if (check)
            count(&tally, payload, (size_t)length);
        else if (fwrite(payload, 1, (size_t)length, out) != (size_t)length)
            err(1, "%s", output ? output : "standard output");
        if (show_sources)
            print_source(&from);
    }
    close(fd);
    if (check)
        report(&tally);
    else if (fclose(out))
        err(1, "%s", output ? output : "standard output");
    return 0;
}
