/* cancel: threads that are cancelled while they block in a call.
 *
 *   cancel foreign      sockets, pipes and files that no rule takes
 *   cancel ours         sends and connects to 239.1.1.1 that wait for receivers
 *   cancel listens      a datagram socket that listens at 127.0.0.1 from port 4000 on,
 *                       and one that is accepted at port 4100, where somebody has to ask
 *   cancel all          foreign and ours
 *
 * For each call a line "CALL cancelled" once its thread has blocked, was cancelled,
 * ran its clean-up handler and was joined; "CALL FAILED: why" else, and status 1.
 * Promises: a process that gets to its end has outlived them all. Is not aware of
 * any library.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int fd, other;
static FILE *stream;
static struct sockaddr_storage name;
static socklen_t name_length;
static char bytes[100000];
static atomic_int entered, cleaned, returned;
static int ours;
static const char *kind = "foreign";
static pid_t helper;

static struct iovec part = {bytes, 1000};

/* ---- what is called: once natively blocked it never returns ---- */
static void do_read(void) { read(fd, bytes, 10); }
static void do_readv(void) { readv(fd, &part, 1); }
static void do_recv(void) { recv(fd, bytes, 10, 0); }
static void do_recvfrom(void) { recvfrom(fd, bytes, 10, 0, NULL, NULL); }
static void do_recvmsg(void) { struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1}; recvmsg(fd, &m, 0); }
static void do_recvmmsg(void) { struct mmsghdr m = {{.msg_iov = &part, .msg_iovlen = 1}}; recvmmsg(fd, &m, 1, 0, NULL); }
static void do_poll(void) { struct pollfd p = {.fd = fd, .events = POLLIN}; poll(&p, 1, -1); }
static void do_accept(void) { accept(fd, NULL, NULL); }
static void do_accept4(void) { accept4(fd, NULL, NULL, 0); }
static void do_connect(void) { connect(fd, (struct sockaddr *)&name, name_length); }
static void do_write(void) { for (;;) write(fd, bytes, 1000); }
static void do_writev(void) { for (;;) writev(fd, &part, 1); }
static void do_send(void) { for (;;) send(fd, bytes, 1000, 0); }
static void do_sendto(void) {
    for (;;) sendto(fd, bytes, 1000, 0, ours ? (struct sockaddr *)&name : NULL, ours ? name_length : 0);
}
static void do_sendmsg(void) {
    struct msghdr m = {.msg_name = ours ? &name : NULL, .msg_namelen = ours ? name_length : 0,
                       .msg_iov = &part, .msg_iovlen = 1};
    for (;;) sendmsg(fd, &m, 0);
}
static void do_sendmmsg(void) {
    struct mmsghdr m = {{.msg_name = ours ? &name : NULL, .msg_namelen = ours ? name_length : 0,
                         .msg_iov = &part, .msg_iovlen = 1}};
    for (;;) sendmmsg(fd, &m, 1, 0);
}
static void do_lock(void) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    fcntl(fd, F_SETLKW, &lock);
}
static void do_close(void) { close(fd); }
static void do_fclose(void) { fclose(stream); }

/* ---- what it is called on ---- */
static void with_pair(int type) {
    int two[2];
    socketpair(AF_UNIX, type, 0, two);
    fd = two[0], other = two[1];
}
static void a_pipe(void) { int two[2]; pipe(two); fd = two[0]; other = two[1]; }
static void stream_pair(void) { with_pair(SOCK_STREAM); }
static void full_pair(void) {
    with_pair(SOCK_STREAM);
    while (send(fd, bytes, 1000, MSG_DONTWAIT) > 0)
        ;
}
static void udp(void) { fd = socket(AF_INET, SOCK_DGRAM, 0); bind(fd, (struct sockaddr *)&(struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, 16); }
static void listening(void) {
    fd = socket(AF_INET, SOCK_STREAM, 0);
    listen(fd, 1);
}
/* A unix socket whose queue of connections is full: connect blocks. */
static void queue_full(void) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path + 1, 40, "cancel-%d", getpid());
    other = socket(AF_UNIX, SOCK_STREAM, 0);
    memcpy(&name, &un, sizeof un);
    name_length = sizeof un;
    bind(other, (struct sockaddr *)&un, sizeof un);
    listen(other, 0);
    for (;;) {
        int full = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(full, (struct sockaddr *)&un, sizeof un))
            break;
    }
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
}
static void locked_by_another(void) {
    char path[] = "/tmp/flexcast-cancel-XXXXXX";
    fd = mkstemp(path);
    int ready[2];
    pipe(ready);
    if (!(helper = fork())) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int mine = open(path, O_RDWR);
        fcntl(mine, F_SETLK, &lock);
        write(ready[1], "x", 1);
        alarm(20);
        pause();
    }
    read(ready[0], bytes, 1);
    unlink(path);
}
/* A connection whose peer reads nothing: close waits for what is unsent. */
static void lingering(void) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof in;
    other = socket(AF_INET, SOCK_STREAM, 0);
    bind(other, (struct sockaddr *)&in, sizeof in);
    listen(other, 1);
    getsockname(other, (struct sockaddr *)&in, &length);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    connect(fd, (struct sockaddr *)&in, sizeof in);
    for (int idle = 0; idle < 20; usleep(1000))
        idle = send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0 ? 0 : idle + 1;
    struct linger linger = {.l_onoff = 1, .l_linger = 30};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}
/* A stream whose buffer cannot be flushed into a full pipe. */
static void unflushed(void) {
    int two[2];
    pipe2(two, O_NONBLOCK);
    while (write(two[1], bytes, 1) == 1)
        ;
    fcntl(two[1], F_SETFL, 0);
    stream = fdopen(two[1], "w");
    fputs("held", stream);
}
static void datagrams(void) { fd = socket(AF_INET, SOCK_DGRAM, 0); }
/* A connection that waits is cancelled too; then the socket is connected. */
static void connected(void) {
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    pthread_t waiting;
    pthread_create(&waiting, NULL, (void *(*)(void *))(void *)do_connect, NULL);
    usleep(100000);
    pthread_cancel(waiting);
    pthread_join(waiting, NULL);
    fcntl(fd, F_SETFL, 0);
}

/* A datagram socket that listens; the one at port 4100 is asked for, and accepted. */
static int listening_at(int port) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(listener, (struct sockaddr *)&in, sizeof in) || listen(listener, 1))
        perror("listen");
    return listener;
}
static void asked_for(void) {
    static int port = 4000;
    fd = listening_at(port++);
}
static void accepted(void) {
    static int once = -1;
    if (once < 0)
        once = accept(listening_at(4100), NULL, NULL);
    fd = once;
}

struct call { const char *name; void (*prepare)(void), (*call)(void); };

static const struct call FOREIGN[] = {
    {"read", a_pipe, do_read}, {"readv", a_pipe, do_readv}, {"recv", stream_pair, do_recv},
    {"recvfrom", udp, do_recvfrom}, {"recvmsg", udp, do_recvmsg}, {"recvmmsg", udp, do_recvmmsg},
    {"poll", udp, do_poll}, {"accept", listening, do_accept}, {"accept4", listening, do_accept4},
    {"connect", queue_full, do_connect}, {"write", full_pair, do_write}, {"writev", full_pair, do_writev},
    {"send", full_pair, do_send}, {"sendto", full_pair, do_sendto}, {"sendmsg", full_pair, do_sendmsg},
    {"sendmmsg", full_pair, do_sendmmsg}, {"fcntl", locked_by_another, do_lock},
    {"close", lingering, do_close}, {"fclose", unflushed, do_fclose},
};
static const struct call OURS[] = {
    {"connect", datagrams, do_connect}, {"sendto", datagrams, do_sendto},
    {"sendmsg", datagrams, do_sendmsg}, {"sendmmsg", datagrams, do_sendmmsg},
    {"send", connected, do_send}, {"write", connected, do_write}, {"writev", connected, do_writev},
};

static const struct call LISTENS[] = {
    {"accept", asked_for, do_accept}, {"accept4", asked_for, do_accept4}, {"read", accepted, do_read},
    {"readv", accepted, do_readv}, {"recv", accepted, do_recv}, {"recvfrom", accepted, do_recvfrom},
    {"recvmsg", accepted, do_recvmsg}, {"recvmmsg", accepted, do_recvmmsg}, {"poll", accepted, do_poll},
};

static void clean_up(void *unused) { (void)unused; cleaned = 1; }

static void *run(void *call) {
    pthread_cleanup_push(clean_up, NULL);
    entered = 1;
    ((const struct call *)call)->call();
    returned = errno ? errno : -1;
    pthread_cleanup_pop(0);
    return NULL;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int test(const struct call *call) {
    entered = cleaned = returned = 0;
    fd = other = -1;
    if (ours) {
        /* Each call its own channel: the wait is once per channel. */
        static int port = 5000;
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port++)};
        inet_pton(AF_INET, "239.1.1.1", &in.sin_addr);
        memcpy(&name, &in, sizeof in);
        name_length = sizeof in;
    }
    call->prepare();
    pthread_t thread;
    pthread_create(&thread, NULL, run, (void *)call);
    while (!entered)
        sched_yield();
    usleep(100000);
    const char *why = NULL;
    void *result = NULL;
    if (returned)
        why = "it did not block";
    double start = now();
    pthread_cancel(thread);
    pthread_join(thread, &result);
    if (!why && result != PTHREAD_CANCELED)
        why = "it was not cancelled";
    else if (!why && !cleaned)
        why = "its clean-up did not run";
    else if (!why && now() - start > 1)
        why = "it took a second";
    if (helper) {
        kill(helper, SIGKILL);
        waitpid(helper, NULL, 0);
        helper = 0;
    }
    printf(why ? "%s %s FAILED: %s (errno %d)\n" : "%s %s cancelled\n", kind, call->name, why, returned);
    fflush(stdout);
    return why != NULL;
}

int main(int count, char **words) {
    alarm(60);
    const char *what = count > 1 ? words[1] : "all";
    int failed = 0;
    if (!strcmp(what, "listens")) {
        kind = what;
        for (size_t i = 0; i < sizeof LISTENS / sizeof *LISTENS; i++)
            failed |= test(&LISTENS[i]);
        return failed;
    }
    if (strcmp(what, "ours"))
        for (size_t i = 0; i < sizeof FOREIGN / sizeof *FOREIGN; i++)
            failed |= test(&FOREIGN[i]);
    ours = 1;
    kind = "ours";
    if (strcmp(what, "foreign"))
        for (size_t i = 0; i < sizeof OURS / sizeof *OURS; i++)
            failed |= test(&OURS[i]);
    return failed;
}
