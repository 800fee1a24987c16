/* push: sends datagrams to a group or host, as any multicast sender does.
 *
 *   push [-s SIZE] [-r RATE] [-n COUNT] [-f FILE] [-t TTL] [-i IFACE] [-c] ADDRESS PORT
 *
 * Without -f it sends the numbered stream of stream.h; with -f FILE ("-" is
 * standard input) the file in chunks of SIZE. RATE is in datagrams a second, 0
 * is flat out; COUNT 0 is for ever (or to the end of the file). Time that it lost is
 * not caught up but for 20 ms: no bursts. -c connects the socket and uses send. Ends
 * with "sent N" on standard error, also on SIGTERM.
 *
 * Promises: only the usual BSD calls; a failed send ends it with status 1. Is
 * not aware of who receives, or how.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

#include "stream.h"

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

static void set_ttl_and_interface(int fd, int family, int ttl, const char *iface) {
    unsigned index = 0;
    if (iface && !(index = if_nametoindex(iface)))
        err(1, "interface %s", iface);
    if (family == AF_INET) {
        unsigned char byte = (unsigned char)ttl;
        struct ip_mreqn out = {.imr_ifindex = (int)index};
        if (setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &byte, sizeof byte))
            err(1, "IP_MULTICAST_TTL %d", ttl);
        if (iface && setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof out))
            err(1, "IP_MULTICAST_IF %s", iface);
    } else {
        if (setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &ttl, sizeof ttl))
            err(1, "IPV6_MULTICAST_HOPS %d", ttl);
        if (iface && setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof index))
            err(1, "IPV6_MULTICAST_IF %s", iface);
    }
}

/* Above this a delay moves the schedule, in nanoseconds. */
#define CATCH_UP 20000000

/* Sleeps until `due`; a signal ends the sleep only to end the program. */
static void wait_until(int64_t due) {
    struct timespec t = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};
    while (!stopped && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

int main(int argc, char **argv) {
    long size = 1316, rate = 100, count = 0, ttl = 4;
    const char *file = NULL, *iface = NULL;
    int connected = 0, option;

    while ((option = getopt(argc, argv, "s:r:n:f:t:i:c")) != -1) {
        switch (option) {
        case 's': size = number(optarg, 1, STREAM_LARGEST, 's'); break;
        case 'r': rate = number(optarg, 0, 1000000, 'r'); break;
        case 'n': count = number(optarg, 0, 1000000000, 'n'); break;
        case 't': ttl = number(optarg, 0, 255, 't'); break;
        case 'f': file = optarg; break;
        case 'i': iface = optarg; break;
        case 'c': connected = 1; break;
        default: argc = 0;
        }
    }
    if (argc - optind != 2)
        errx(2, "usage: push [-s SIZE] [-r RATE] [-n COUNT] [-f FILE] [-t TTL] [-i IFACE] [-c] "
                "ADDRESS PORT");
    if (!file && size < STREAM_NUMBER_SIZE)
        errx(2, "-s %ld: the numbered stream needs at least %d", size, STREAM_NUMBER_SIZE);

    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *to;
    int failure = getaddrinfo(argv[optind], argv[optind + 1], &hints, &to);
    if (failure)
        errx(1, "%s port %s: %s", argv[optind], argv[optind + 1], gai_strerror(failure));
    int fd = socket(to->ai_family, SOCK_DGRAM, 0);
    if (fd < 0)
        err(1, "socket");
    set_ttl_and_interface(fd, to->ai_family, (int)ttl, iface);
    if (connected && connect(fd, to->ai_addr, to->ai_addrlen))
        err(1, "connect");

    FILE *in = !file ? NULL : !strcmp(file, "-") ? stdin : fopen(file, "rb");
    if (file && !in)
        err(1, "%s", file);

    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);

    static unsigned char payload[STREAM_LARGEST];
    for (long i = 0; i < size; i++)
        payload[i] = (unsigned char)i;
    int64_t start = stream_now();
    long sent = 0;
    for (; !stopped && (!count || sent < count); sent++) {
        size_t length = (size_t)size;
        if (in && !(length = fread(payload, 1, (size_t)size, in)))
            break;
        if (!in)
            stream_put(payload, (uint64_t)sent);
        if (rate) {
            int64_t due = start + (int64_t)((double)sent * 1e9 / (double)rate);
            wait_until(due);
            int64_t late = stream_now() - due - CATCH_UP;
            start += late > 0 ? late : 0;
        }
        if (stopped)
            break;
        ssize_t done = connected ? send(fd, payload, length, 0)
                                 : sendto(fd, payload, length, 0, to->ai_addr, to->ai_addrlen);
        if (done < 0 && errno == EINTR && stopped)
            break;
        if (done != (ssize_t)length)
            err(1, "datagram %ld of %zu bytes", sent, length);
    }
    if (in && ferror(in))
        err(1, "%s", file);
    fprintf(stderr, "sent %ld\n", sent);
    freeaddrinfo(to);
    close(fd);
    return 0;
}
