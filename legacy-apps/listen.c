/* listen: a server in the accept style, on a datagram socket.
 *
 *   listen [-m MODE] [-s SIZE] [-r RATE] [-n COUNT] [-f FILE] [-a ACCEPTS] [-w SECONDS] [-t]
 *          ADDRESS PORT
 *
 * Binds, listens, and serves whoever it accepts, one after the other: COUNT datagrams of
 * the numbered stream of stream.h (0: until nobody is there), or FILE ("-": standard
 * input) in chunks of SIZE; RATE is in datagrams a second, 0 is flat out. Ends after
 * ACCEPTS (0: never). MODE says how it waits in accept: block, poll, select, epoll, spin
 * (non-blocking, asked again every 5 ms) or timed (SO_RCVTIMEO); -w SECONDS ends it with
 * status 3 where nobody has come by then. -t takes a stream socket instead.
 *
 * It says on standard error what happens: "listening", "accepted from ADDRESS PORT at
 * ADDRESS PORT", then "sent N" or "sent N, nobody is there; reads N" (0: end of file).
 *
 * Promises: only the usual BSD calls; a broken pipe is no reason to end. The kernel has
 * no accept on datagram sockets: without -t it needs a system that has. Is not aware of
 * who receives, or how.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

#include "stream.h"

static const char *mode = "block", *file;
static long size = 1316, rate = 100, count, accepts, limit;
static int streams;

static long number(const char *text, long most, char option) {
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end || value < 0 || value > most)
        errx(2, "-%c %s: expected a number from 0 to %ld", option, text, most);
    return value;
}

static const char *name(const struct sockaddr_storage *of, socklen_t length) {
    static char text[2][120];
    static int at;
    char host[80], port[20];
    if (getnameinfo((const struct sockaddr *)of, length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV))
        return "nobody";
    at = !at;
    snprintf(text[at], sizeof text[at], "%s %s", host, port);
    return text[at];
}

static int is(const char *word) { return !strcmp(mode, word); }

/* Waits until somebody can be accepted, as MODE says; 0 where nobody came in time. */
static int wait_for_somebody(int fd) {
    int most = limit ? (int)limit * 1000 : -1;
    if (is("poll")) {
        struct pollfd one = {.fd = fd, .events = POLLIN};
        return poll(&one, 1, most) > 0;
    }
    if (is("select")) {
        struct timeval patience = {.tv_sec = limit};
        fd_set set;
        FD_ZERO(&set);
        FD_SET(fd, &set);
        return select(fd + 1, &set, NULL, NULL, limit ? &patience : NULL) > 0;
    }
    if (is("epoll")) {
        struct epoll_event event = {.events = EPOLLIN};
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        int ready = epoll_wait(epoll, &event, 1, most);
        close(epoll);
        return ready > 0;
    }
    return 1;
}

static int next(int fd, struct sockaddr_storage *peer, socklen_t *length) {
    int64_t start = stream_now();
    if (!wait_for_somebody(fd))
        return -1;
    for (;;) {
        int accepted = accept4(fd, (struct sockaddr *)peer, length, SOCK_CLOEXEC);
        if (accepted >= 0 || errno != EAGAIN || is("timed"))
            return accepted;
        if (limit && stream_now() - start > limit * 1000000000)
            return -1;
        usleep(5000);
    }
}

static int listening_socket(const char *address, const char *port) {
    struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = streams ? SOCK_STREAM : SOCK_DGRAM}, *at;
    int failure = getaddrinfo(address, port, &hints, &at), on = 1;
    if (failure)
        errx(1, "%s port %s: %s", address, port, gai_strerror(failure));
    int fd = socket(at->ai_family, at->ai_socktype, 0);
    struct timeval patience = {.tv_sec = limit};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on))
        err(1, "socket");
    if (bind(fd, at->ai_addr, at->ai_addrlen))
        err(1, "bind %s %s", address, port);
    if (listen(fd, 5))
        err(1, "listen %s %s", address, port);
    if (is("timed") && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience))
        err(1, "SO_RCVTIMEO");
    if (!is("block") && !is("timed") && fcntl(fd, F_SETFL, O_NONBLOCK))
        err(1, "O_NONBLOCK");
    freeaddrinfo(at);
    return fd;
}

static void serve(int fd) {
    static unsigned char payload[STREAM_LARGEST];
    FILE *in = !file ? NULL : !strcmp(file, "-") ? stdin : fopen(file, "rb");
    int64_t start = stream_now();
    long sent = 0;
    if (file && !in)
        err(1, "%s", file);
    for (; file || !count || sent < count; sent++) {
        size_t length = (size_t)size;
        if (in && !(length = fread(payload, 1, (size_t)size, in)))
            break;
        if (!in)
            stream_put(payload, (uint64_t)sent);
        if (rate) {
            int64_t due = start + (int64_t)((double)sent * 1e9 / (double)rate);
            struct timespec t = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        }
        if (send(fd, payload, length, streams ? MSG_NOSIGNAL : 0) == (ssize_t)length)
            continue;
        if (errno != EPIPE && errno != ECONNRESET)
            err(1, "send");
        fprintf(stderr, "sent %ld, nobody is there; reads %zd\n", sent, read(fd, payload, sizeof payload));
        break;
    }
    if (file ? feof(in) : count && sent == count)
        fprintf(stderr, "sent %ld\n", sent);
    if (in && in != stdin)
        fclose(in);
    close(fd);
}

int main(int argc, char **argv) {
    int option;
    while ((option = getopt(argc, argv, "m:s:r:n:f:a:w:t")) != -1) {
        switch (option) {
        case 'm': mode = optarg; break;
        case 's': size = number(optarg, STREAM_LARGEST, 's'); break;
        case 'r': rate = number(optarg, 1000000, 'r'); break;
        case 'n': count = number(optarg, 1000000000, 'n'); break;
        case 'f': file = optarg; break;
        case 'a': accepts = number(optarg, 1000000000, 'a'); break;
        case 'w': limit = number(optarg, 3600, 'w'); break;
        case 't': streams = 1; break;
        default: argc = 0;
        }
    }
    if (argc - optind != 2 || size < STREAM_NUMBER_SIZE || !strstr(" block poll select epoll spin timed ", mode))
        errx(2, "usage: listen [-m block|poll|select|epoll|spin|timed] [-s SIZE] [-r RATE] [-n COUNT] "
                "[-f FILE] [-a ACCEPTS] [-w SECONDS] [-t] ADDRESS PORT");
    int fd = listening_socket(argv[optind], argv[optind + 1]);
    fprintf(stderr, "listening\n");
    for (long served = 0; !accepts || served < accepts; served++) {
        struct sockaddr_storage peer, own;
        socklen_t peer_length = sizeof peer, own_length = sizeof own;
        int accepted = next(fd, &peer, &peer_length);
        if (accepted < 0 && limit) {
            fprintf(stderr, "nobody within %ld s\n", limit);
            return 3;
        }
        if (accepted < 0 || getsockname(accepted, (struct sockaddr *)&own, &own_length))
            err(1, "accept");
        fprintf(stderr, "accepted from %s at %s\n", name(&peer, peer_length), name(&own, own_length));
        serve(accepted);
    }
    return 0;
}
