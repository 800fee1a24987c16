/* signals: a program that sends, from a signal's handler too, and exits from one.
 *
 *   signals MICROSECONDS [tick]
 *
 * Sends to 239.1.1.1 port 5000 as fast as it can; with `tick` a handler sends too,
 * every 200 µs of processor time. After MICROSECONDS a handler calls exit. All of it
 * is what sendto(2) may be used for (signal-safety(7)). Is not aware of any library.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

static struct sockaddr_in group = {.sin_family = AF_INET};
static int fd;

static void leave(int number) { (void)number; exit(0); }

static void tick(int number) {
    (void)number;
    sendto(fd, "tick", 4, 0, (struct sockaddr *)&group, sizeof group);
}

int main(int count, char **words) {
    static char bytes[1316];
    group.sin_port = htons(5000);
    inet_pton(AF_INET, "239.1.1.1", &group.sin_addr);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    sendto(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&group, sizeof group);
    signal(SIGALRM, leave);
    signal(SIGPROF, tick);
    struct itimerval often = {{0, 200}, {0, 200}}, once = {{0, 0}, {0, atoi(words[1])}};
    if (count > 2)
        setitimer(ITIMER_PROF, &often, NULL);
    setitimer(ITIMER_REAL, &once, NULL);
    for (;;)
        if (sendto(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&group, sizeof group) != sizeof bytes)
            return 1;
}
