/* loop: what relaying to many costs without Flexcast: recv, then sendto for each.
 *
 *   loop PORT TO-ADDRESS FIRST-PORT COUNT
 *
 * What arrives at PORT goes to COUNT ports of TO-ADDRESS, from FIRST-PORT on. On
 * SIGTERM it ends with "sent N copies, N ns each": the CPU time of its one thread.
 *
 * Promises: the plainest loop, nothing batched. IPv4. Is not part of Flexcast: it is
 * what scripts/bench.sh compares with.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

static volatile sig_atomic_t stopped;

static void stop(int signal_number) {
    (void)signal_number;
    stopped = 1;
}

int main(int argc, char **argv) {
    struct sockaddr_in at = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    if (argc != 5 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
        errx(2, "usage: loop PORT TO-ADDRESS FIRST-PORT COUNT");
    int first = atoi(argv[3]), count = atoi(argv[4]), buffer = 4 << 20;
    at.sin_port = htons((uint16_t)atoi(argv[1]));

    int in = socket(AF_INET, SOCK_DGRAM, 0), out = socket(AF_INET, SOCK_DGRAM, 0);
    if (in < 0 || out < 0)
        err(1, "socket");
    setsockopt(in, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (bind(in, (struct sockaddr *)&at, sizeof at))
        err(1, "bind port %s", argv[1]);
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    fprintf(stderr, "listening\n");

    static unsigned char payload[65536];
    struct timespec start, end;
    long long sent = 0;
    ssize_t length = recv(in, payload, sizeof payload, 0);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
    while (!stopped && length >= 0) {
        for (int i = 0; i < count; i++) {
            to.sin_port = htons((uint16_t)(first + i));
            sent += sendto(out, payload, (size_t)length, 0, (struct sockaddr *)&to, sizeof to) == length;
        }
        length = recv(in, payload, sizeof payload, 0);
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    if (length < 0 && errno != EINTR)
        err(1, "recv");
    double spent = (double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec);
    printf("sent %lld copies, %.1f ns each\n", sent, sent ? spent / (double)sent : 0);
    return 0;
}
