/* call: a client as datagram servers have them: it connects, says hello, and receives
 * what the server sends to it.
 *
 *   call [-m recv|poll|epoll] [-u] [-b RCVBUF] [-H TEXT] [-o FILE] [-w SECONDS] HOST PORT
 *
 * -m says what waits (poll and epoll on a non-blocking socket; default: recv, which
 * blocks); -u does not connect, but sends and receives by sendto and recvfrom, and takes
 * nothing that is not from HOST and PORT; -H is what it says (default: hello), each second
 * until something comes; -o writes the payloads there (default: standard output). Ends
 * with the server's empty datagram, on SIGTERM or SIGINT, or after SECONDS without a
 * datagram, once one came.
 *
 * Promises: ends with a line "HOST PORT: N datagrams, N bytes, end" on standard error
 * ("idle" or "stopped" in place of "end"), and status 0; with status 1 and the reason where
 * a call fails, as it does when nobody serves the port. Is not aware of how many others
 * call, or of how what it gets is sent.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "stream.h"

enum method { RECV, POLL, EPOLL };

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

/* Waits 200 ms at most, so that idle time and signals are noticed. */
static void wait_for_datagram(int fd, enum method how, int epoll) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct epoll_event event;
    int ready = how == POLL ? poll(&p, 1, 200) : epoll_wait(epoll, &event, 1, 200);
    if (ready < 0 && errno != EINTR)
        err(1, how == POLL ? "poll" : "epoll_wait");
}

/* A socket that waits as told. */
static int open_socket(int family, enum method how, long buffer, int *epoll) {
    int fd = socket(family, SOCK_DGRAM, 0), bytes = (int)buffer;
    if (fd < 0)
        err(1, "socket");
    if (buffer && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes))
        err(1, "SO_RCVBUF %ld", buffer);
    struct timeval wake = {.tv_usec = 200000};
    if (how == RECV && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wake, sizeof wake))
        err(1, "SO_RCVTIMEO");
    if (how != RECV && fcntl(fd, F_SETFL, O_NONBLOCK))
        err(1, "O_NONBLOCK");
    struct epoll_event readable = {.events = EPOLLIN};
    *epoll = how == EPOLL ? epoll_create1(0) : -1;
    if (how == EPOLL && (*epoll < 0 || epoll_ctl(*epoll, EPOLL_CTL_ADD, fd, &readable)))
        err(1, "epoll");
    return fd;
}

static void say(int fd, const char *text, const struct addrinfo *to) {
    ssize_t said = to ? sendto(fd, text, strlen(text), 0, to->ai_addr, to->ai_addrlen)
                      : send(fd, text, strlen(text), 0);
    if (said < 0)
        err(1, "hello");
}

/* One datagram of the server's. */
static ssize_t receive(int fd, unsigned char *into, size_t room, const struct addrinfo *only) {
    struct sockaddr_storage from = {0};
    socklen_t length = sizeof from;
    if (!only)
        return recv(fd, into, room, 0);
    ssize_t got = recvfrom(fd, into, room, 0, (struct sockaddr *)&from, &length);
    if (got < 0 || (length == only->ai_addrlen && !memcmp(&from, only->ai_addr, length)))
        return got;
    errno = EAGAIN;
    return -1;
}

int main(int argc, char **argv) {
    const char *output = NULL, *hello = "hello";
    long buffer = 0, idle = 0;
    int unconnected = 0, option, epoll;
    enum method how = RECV;

    while ((option = getopt(argc, argv, "m:ub:H:o:w:")) != -1) {
        switch (option) {
        case 'm':
            how = !strcmp(optarg, "poll") ? POLL : !strcmp(optarg, "epoll") ? EPOLL : RECV;
            if (how == RECV && strcmp(optarg, "recv"))
                errx(2, "-m %s: expected recv, poll or epoll", optarg);
            break;
        case 'u': unconnected = 1; break;
        case 'b': buffer = number(optarg, 1, 1 << 30, 'b'); break;
        case 'H': hello = optarg; break;
        case 'o': output = optarg; break;
        case 'w': idle = number(optarg, 1, 86400, 'w'); break;
        default: argc = 0;
        }
    }
    if (argc - optind != 2)
        errx(2, "usage: call [-m recv|poll|epoll] [-u] [-b RCVBUF] [-H TEXT] [-o FILE] "
                "[-w SECONDS] HOST PORT");
    const char *host = argv[optind], *port = argv[optind + 1];
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *server;
    int failure = getaddrinfo(host, port, &hints, &server);
    if (failure)
        errx(1, "%s port %s: %s", host, port, gai_strerror(failure));
    int fd = open_socket(server->ai_family, how, buffer, &epoll);
    if (!unconnected && connect(fd, server->ai_addr, server->ai_addrlen))
        err(1, "connect");
    FILE *out = output ? fopen(output, "wb") : stdout;
    if (!out)
        err(1, "%s", output);
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);

    static unsigned char payload[65536];
    uint64_t count = 0, bytes = 0;
    int64_t latest = 0, said = 0;
    const char *how_it_ended = NULL;
    while (!how_it_ended) {
        if (!count && (!said || stream_now() - said >= 1000000000)) {
            say(fd, hello, unconnected ? server : NULL);
            said = stream_now();
        }
        if (how != RECV)
            wait_for_datagram(fd, how, epoll);
        ssize_t got = receive(fd, payload, sizeof payload, unconnected ? server : NULL);
        if (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            err(1, "receive");
        if (got > 0 && fwrite(payload, 1, (size_t)got, out) != (size_t)got)
            err(1, "%s", output ? output : "standard output");
        if (got > 0) {
            count++;
            bytes += (uint64_t)got;
            latest = stream_now();
        }
        how_it_ended = !got                                                          ? "end"
                       : stopped                                                     ? "stopped"
                       : idle && count && stream_now() - latest >= idle * 1000000000 ? "idle"
                                                                                     : NULL;
    }
    if (fclose(out))
        err(1, "%s", output ? output : "standard output");
    fprintf(stderr, "%s %s: %llu datagrams, %llu bytes, %s\n", host, port,
            (unsigned long long)count, (unsigned long long)bytes, how_it_ended);
    close(fd);
    freeaddrinfo(server);
    return 0;
}
