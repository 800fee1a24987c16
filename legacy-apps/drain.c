/* drain: what receiving costs: thread CPU time per recv of a queue that is not empty.
 *
 *   drain COUNT GROUP PORT
 *
 * Joins the group, and every 10 ms takes what is queued by recv, until COUNT came.
 * Only the receive calls are timed, the last one of each round, which finds the queue
 * empty, with them.
 *
 * Promises: ends with one line "N datagrams, N bytes, N ns each" on standard output.
 * IPv4. Is not a receiver to measure loss with: join -k is.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

static int64_t thread_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 4)
        errx(2, "usage: drain COUNT GROUP PORT");
    long count = atol(argv[1]);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3]))};
    struct ip_mreqn request = {0};
    if (count < 1 || inet_pton(AF_INET, argv[2], &at.sin_addr) != 1)
        errx(2, "expected a number from 1 and an IPv4 group, not %s and %s", argv[1], argv[2]);
    request.imr_multiaddr = at.sin_addr;

    int fd = socket(AF_INET, SOCK_DGRAM, 0), on = 1, buffer = 4 << 20;
    if (fd < 0)
        err(1, "socket");
    /* As much as the system allows: a round's datagrams wait in it. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer) ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on))
        err(1, "setsockopt");
    if (bind(fd, (struct sockaddr *)&at, sizeof at))
        err(1, "bind port %s", argv[3]);
    if (setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request))
        err(1, "IP_ADD_MEMBERSHIP");
    fprintf(stderr, "joined\n");

    static unsigned char payload[65536];
    int64_t spent = 0, bytes = 0;
    long received = 0;
    while (received < count) {
        struct timespec pause = {.tv_nsec = 10000000};
        nanosleep(&pause, NULL);
        long before = received;
        ssize_t length;
        int64_t from = thread_time();
        while ((length = recv(fd, payload, sizeof payload, MSG_DONTWAIT)) >= 0) {
            bytes += length;
            received++;
        }
        int64_t until = thread_time();
        if (errno != EAGAIN)
            err(1, "recv");
        if (received > before)
            spent += until - from;
    }
    printf("%ld datagrams, %lld bytes, %.1f ns each\n", received, (long long)bytes,
           (double)spent / (double)received);
    return 0;
}
