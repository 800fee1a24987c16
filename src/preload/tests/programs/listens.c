/* listens: every call of a server in the accept style, and what it answers.
 *
 *   listens stream|datagram ADDRESS PORT
 *
 * Prints one line a call: what it returned, the error, what it told. A line "? come" asks
 * whoever started it for a peer (which connects, or asks for the channel at PORT), "? go"
 * has that peer go; a peer that sees the end of the stream goes by itself.
 * Promises: the same lines on a stream socket, and on a datagram socket that can listen,
 * but for what a signal says: none is raised on datagram sockets. Is not aware of any
 * library.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int streams, listener, quiet;
static struct addrinfo *at;
static char bytes[100];
static volatile sig_atomic_t broken;

static void say(const char *what, long answer) {
    if (answer < 0)
        printf("%s: %s\n", what, strerrorname_np(errno));
    else
        printf("%s: %ld\n", what, answer);
}

/* Calls leave errno alone where they do not fail. */
#define TRY(what, call)                                        \
    ({                                                         \
        errno = 77;                                            \
        long answer = (call);                                  \
        if (answer >= 0 && errno != 77)                        \
            printf("%s: errno changed to %d\n", what, errno);  \
        say(what, answer);                                     \
        (int)answer;                                           \
    })

static void ask(const char *what) {
    printf("? %s\n", what);
    fflush(stdout);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void signalled(int number) { broken += number == SIGPIPE; }

static const char *host(const struct sockaddr_storage *name, socklen_t length) {
    static char text[100];
    if (getnameinfo((const struct sockaddr *)name, length, text, sizeof text, NULL, 0, NI_NUMERICHOST))
        return "nobody";
    return text;
}

/* The address, and the port where it is the one that we listen at. */
static void names(const char *what, int fd) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    char label[100];
    snprintf(label, sizeof label, "%s getsockname", what);
    if (TRY(label, getsockname(fd, (struct sockaddr *)&name, &length)) == 0)
        printf("%s of %d at %s port %s\n", label, name.ss_family, host(&name, length),
               ((struct sockaddr_in *)&name)->sin_port == ((struct sockaddr_in *)at->ai_addr)->sin_port ? "right" : "wrong");
    length = sizeof name;
    snprintf(label, sizeof label, "%s getpeername", what);
    if (TRY(label, getpeername(fd, (struct sockaddr *)&name, &length)) == 0)
        printf("%s of %d at %s\n", label, name.ss_family, host(&name, length));
}

static void option(const char *what, int fd, int name) {
    int value = -1;
    socklen_t length = sizeof value;
    if (TRY(what, getsockopt(fd, SOL_SOCKET, name, &value, &length)) == 0)
        printf("%s is %d, %u bytes\n", what, value, length);
}

static int flagged(const char *what, int fd, short events, int patience) {
    struct pollfd one = {.fd = fd, .events = events};
    int ready = TRY(what, poll(&one, 1, patience));
    printf("%s: events %#x\n", what, one.revents & (POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLNVAL));
    return ready;
}

static void limit(int fd, int ms) {
    struct timeval patience = {.tv_usec = ms * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

static int fresh(int reuse) {
    int fd = socket(at->ai_family, at->ai_socktype, 0);
    if (reuse)
        TRY("SO_REUSEADDR", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse));
    return fd;
}

static void before_anybody_comes(void) {
    listener = fresh(1);
    TRY("bind", bind(listener, at->ai_addr, at->ai_addrlen));
    TRY("accept on a bound socket", accept(listener, NULL, NULL));
    option("bound SO_ACCEPTCONN", listener, SO_ACCEPTCONN);
    TRY("listen", listen(listener, 5));
    TRY("listen again", listen(listener, 1));
    TRY("bind again", bind(listener, at->ai_addr, at->ai_addrlen));
    option("SO_ACCEPTCONN", listener, SO_ACCEPTCONN);
    option("SO_REUSEADDR", listener, SO_REUSEADDR);
    option("SO_ERROR", listener, SO_ERROR);
    names("listener", listener);
    for (int reuse = 0; reuse < 2; reuse++) {
        int second = fresh(reuse);
        TRY("a second bind", bind(second, at->ai_addr, at->ai_addrlen));
        close(second);
    }
    TRY("connect", connect(listener, at->ai_addr, at->ai_addrlen));
    TRY("recv", recv(listener, bytes, 10, MSG_DONTWAIT));
    TRY("read", read(listener, bytes, 10));
    flagged("poll for nobody", listener, POLLIN, 0);
    TRY("accept4 with flags that are none", accept4(listener, NULL, NULL, 1));
    TRY("O_NONBLOCK", fcntl(listener, F_SETFL, O_NONBLOCK));
    TRY("accept without waiting", accept(listener, NULL, NULL));
    TRY("blocking", fcntl(listener, F_SETFL, 0));
    limit(listener, 300);
    double start = now();
    TRY("timed accept", accept(listener, NULL, NULL));
    printf("it took its time: %d\n", now() - start > 0.29 && now() - start < 2);
    limit(listener, 0);
    struct itimerval soon = {.it_value.tv_usec = 200000};
    setitimer(ITIMER_REAL, &soon, NULL);
    TRY("accept and a signal", accept(listener, NULL, NULL));
}

static int accept_by_readiness(void) {
    struct sockaddr_storage peer, known;
    socklen_t length = sizeof peer, known_length = sizeof known;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = 7};
    int epoll = epoll_create1(0);
    TRY("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event));
    TRY("epoll for nobody", epoll_wait(epoll, &event, 1, 0));
    limit(listener, 900);
    ask("come");
    TRY("epoll for the first", epoll_wait(epoll, &event, 1, 5000));
    printf("epoll events %#x of %u\n", event.events, event.data.u32);
    TRY("epoll, by its edge, once", epoll_wait(epoll, &event, 1, 100));
    close(epoll);
    flagged("poll for the first", listener, POLLIN, 5000);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(listener, &set);
    TRY("select for the first", select(listener + 1, &set, NULL, NULL, &(struct timeval){.tv_sec = 5}));
    int fd = TRY("accept4", accept4(listener, (struct sockaddr *)&peer, &length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    limit(listener, 0);
    flagged("poll behind the first", listener, POLLIN, 0);
    printf("close-on-exec %d, non-blocking %d\n", fcntl(fd, F_GETFD) & FD_CLOEXEC, !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
    getpeername(fd, (struct sockaddr *)&known, &known_length);
    printf("accept4 told the peer: %d\n", length == known_length && !memcmp(&peer, &known, length));
    struct timeval inherited = {0};
    socklen_t size = sizeof inherited;
    getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &inherited, &size);
    printf("time limit inherited: %d\n", inherited.tv_usec >= 890000);
    limit(fd, 0);
    return fd;
}

static int accepted_calls(int fd) {
    struct iovec parts[2] = {{"on", 2}, {"e", 1}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    struct mmsghdr several[2] = {{.msg_hdr = message}, {.msg_hdr = message}};
    names("accepted", fd);
    option("accepted SO_ACCEPTCONN", fd, SO_ACCEPTCONN);
    option("accepted SO_ERROR", fd, SO_ERROR);
    TRY("accept on an accepted one", accept(fd, NULL, NULL));
    TRY("listen on an accepted one", listen(fd, 1));
    TRY("connect an accepted one", connect(fd, at->ai_addr, at->ai_addrlen));
    TRY("send", send(fd, "one", 3, quiet));
    TRY("send nothing else", send(fd, "x", 1, quiet | MSG_DONTWAIT));
    TRY("write", write(fd, "one", 3));
    TRY("writev", writev(fd, parts, 2));
    TRY("sendto somebody", sendto(fd, "one", 3, quiet, at->ai_addr, at->ai_addrlen));
    TRY("sendmsg", sendmsg(fd, &message, quiet));
    TRY("sendmmsg", sendmmsg(fd, several, 2, quiet));
    printf("sendmmsg lengths %u %u\n", several[0].msg_len, several[1].msg_len);
    TRY("send with more", send(fd, "on", 2, quiet | MSG_MORE));
    TRY("and more", send(fd, "e", 1, quiet));
    TRY("recv of nothing", recv(fd, bytes, 10, 0));
    flagged("poll an accepted one", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
    int second = dup(fd);
    TRY("close, duplicated", close(fd));
    TRY("send on the duplicate", send(second, "one", 3, quiet));
    TRY("blocking", fcntl(second, F_SETFL, 0));
    return second;
}

static void nobody_left(int fd) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    struct iovec part = {bytes, 10};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_name = &name, .msg_namelen = sizeof name};
    ask("go");
    flagged("poll for the end", fd, POLLIN, 5000);
    TRY("recv at the end", recv(fd, bytes, 10, 0));
    TRY("recv at the end again", recv(fd, bytes, 10, 0));
    TRY("without waiting", recv(fd, bytes, 10, MSG_DONTWAIT));
    TRY("read at the end", read(fd, bytes, 10));
    TRY("readv at the end", readv(fd, &part, 1));
    TRY("recvfrom at the end", recvfrom(fd, bytes, 10, 0, (struct sockaddr *)&name, &length));
    TRY("recvmsg at the end", recvmsg(fd, &message, 0));
    printf("from nobody: %u %u\n", length, message.msg_namelen);
    flagged("poll after the end", fd, POLLIN | POLLRDHUP, 0);
    for (int n = 0; n < 100 && send(fd, "one", 3, quiet) >= 0; n++)
        usleep(10000);
    TRY("send to nobody", send(fd, "one", 3, quiet));
    TRY("close", close(fd));
}

static int blocked_accept_said;

static void *accepts(void *unused) {
    blocked_accept_said = accept(listener, NULL, NULL) < 0 ? errno : 0;
    return unused;
}

int main(int count, char **words) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE};
    if (count < 4)
        return 2;
    alarm(50);
    streams = !strcmp(words[1], "stream");
    quiet = streams ? MSG_NOSIGNAL : 0;
    hints.ai_socktype = streams ? SOCK_STREAM : SOCK_DGRAM;
    if (getaddrinfo(words[2], words[3], &hints, &at))
        return 2;
    struct sigaction action = {.sa_handler = signalled};
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    before_anybody_comes();
    signal(SIGALRM, SIG_DFL);
    alarm(50);
    int fd = accepted_calls(accept_by_readiness());
    nobody_left(fd);
    ask("come");
    fd = TRY("a blocked accept", accept(listener, NULL, NULL));
    TRY("send to the next", send(fd, "one", 3, quiet));
    TRY("shutdown of nothing", shutdown(fd, 9));
    TRY("SHUT_WR", shutdown(fd, SHUT_WR));
    TRY("send behind it", send(fd, "one", 3, quiet));
    TRY("recv behind it", recv(fd, bytes, 10, 0));
    TRY("close", close(fd));
    ask("come");
    fd = TRY("once more", accept(listener, NULL, NULL));
    TRY("SHUT_RD", shutdown(fd, SHUT_RD));
    TRY("recv behind it", recv(fd, bytes, 10, MSG_DONTWAIT));
    TRY("send behind it", send(fd, "one", 3, quiet));
    TRY("close", close(fd));
    pthread_t thread;
    pthread_create(&thread, NULL, accepts, NULL);
    usleep(200000);
    TRY("SHUT_WR of the listener", shutdown(listener, SHUT_WR));
    usleep(100000);
    TRY("SHUT_RDWR of the listener", shutdown(listener, SHUT_RDWR));
    pthread_join(thread, NULL);
    printf("a blocked accept, the listener shut down: %s\n", strerrorname_np(blocked_accept_said));
    TRY("accept after that", accept(listener, NULL, NULL));
    option("SO_ACCEPTCONN after that", listener, SO_ACCEPTCONN);
    TRY("close", close(listener));
    listener = fresh(1);
    TRY("the port is free", bind(listener, at->ai_addr, at->ai_addrlen));
    TRY("and can be listened at", listen(listener, 1));
    printf("signals %d\n", broken);
    return 0;
}
