/* guest: what a library that was loaded with it has done to this process.
 *
 *   guest idle            an ordinary datagram conversation with itself, unmapped
 *   guest pushes GROUP    the same, and datagrams to GROUP port 5000
 *   guest forks GROUP     threads that send while the process forks, 100 times
 *   guest cost            nanoseconds a call on descriptors that are foreign
 *
 * Prints threads, descriptors and the signal mask after the conversation. Promises:
 * ends by itself within 30 s. Is not aware of any library.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in group = {.sin_family = AF_INET};

static int entries(const char *path) {
    DIR *folder = opendir(path);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(folder));)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static void converse(void) {
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof own;
    char bytes[100];
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(fd, (struct sockaddr *)&own, sizeof own) || getsockname(fd, (struct sockaddr *)&own, &length))
        err(1, "bind");
    if (sendto(fd, "hello", 5, 0, (struct sockaddr *)&own, sizeof own) != 5 || recv(fd, bytes, sizeof bytes, 0) != 5)
        err(1, "sendto");
    if (connect(fd, (struct sockaddr *)&own, sizeof own) || write(fd, "again", 5) != 5 || read(fd, bytes, sizeof bytes) != 5)
        err(1, "connect");
    close(fd);
}

static void report(void) {
    sigset_t mask;
    sigemptyset(&mask);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    int blocked = 0;
    for (int number = 1; number < 65; number++)
        blocked += sigismember(&mask, number) == 1;
    printf("threads %d descriptors %d blocked %d\n", entries("/proc/self/task"), entries("/proc/self/fd"), blocked);
}

static atomic_int ending;

static void *send_on(void *unused) {
    (void)unused;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    while (!ending) {
        if (sendto(fd, "stream", 6, 0, (struct sockaddr *)&group, sizeof group) != 6)
            err(1, "sendto");
        /* Numbers come and go while others fork. */
        close(dup(fd));
    }
    close(fd);
    return NULL;
}

static void fork_and_send(void) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, send_on, NULL);
    int inherited = socket(AF_INET, SOCK_DGRAM, 0), bad = 0;
    sendto(inherited, "stream", 6, 0, (struct sockaddr *)&group, sizeof group);
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        if (!child) {
            alarm(5);
            converse();
            int mine = dup(inherited);
            close(inherited);
            close(mine);
            _exit(7);
        }
        int status;
        waitpid(child, &status, 0);
        bad += !WIFEXITED(status) || WEXITSTATUS(status) != 7;
    }
    ending = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    printf("children in trouble: %d\n", bad);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The best of many rounds: what the machine does besides only adds. */
#define COST(what, call)                                       \
    do {                                                       \
        double best = 1e9;                                     \
        for (int round = 0; round < 60; round++) {             \
            double start = now();                              \
            for (int i = 0; i < 2000; i++)                     \
                (void)(call);                                  \
            double each = (now() - start) / 2000;              \
            best = each < best ? each : best;                  \
        }                                                      \
        printf("%s %.1f\n", what, best);                       \
    } while (0)

static void measure(void) {
    int null = open("/dev/null", O_RDWR), two[2];
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    socketpair(AF_UNIX, SOCK_DGRAM, 0, two);
    COST("write", write(null, "x", 1));
    COST("sendto", sendto(-1, "x", 1, 0, NULL, 0));
    COST("getsockname", getsockname(two[0], (struct sockaddr *)&name, &length));
    COST("setsockopt", setsockopt(two[0], SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){1, 0}, sizeof(struct timeval)));
    COST("fcntl", fcntl(null, F_GETFD));
    COST("close", close(-1));
}

int main(int count, char **words) {
    alarm(30);
    const char *what = count > 1 ? words[1] : "idle";
    group.sin_port = htons(5000);
    if (count > 2)
        inet_pton(AF_INET, words[2], &group.sin_addr);
    if (!strcmp(what, "cost")) {
        measure();
        return 0;
    }
    converse();
    if (!strcmp(what, "pushes")) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        for (int i = 0; i < 3; i++)
            if (sendto(fd, "stream", 6, 0, (struct sockaddr *)&group, sizeof group) != 6)
                err(1, "sendto");
        close(fd);
    }
    if (!strcmp(what, "forks"))
        fork_and_send();
    else
        report();
    return 0;
}
