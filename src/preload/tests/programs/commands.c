/* commands: does to a receiving or calling socket what it is told, one line of standard input at
 * a time, and says what came of it.
 *
 *   commands GROUP PORT
 *
 *   join [any|group] [shared|alone]   socket, bind, join: "joined"
 *   leave  close  raw (syscall)  range (close_range)  over (dup2 of /dev/null)
 *   blocked   another thread waits in recv; dup2 over it, then a signal, as Java does
 *   twice     dup, then close of the first number alone
 *   cancel CALL   another thread waits in recv, recvfrom, recvmsg or recvmmsg, and is
 *             cancelled
 *   child     a child holds it, and ends on the next "end": "ended", and with what it has
 *   forked    a child connects it, disconnects it and closes it
 *   call [shared] [nonblocking] [bound]   socket, connect to GROUP, a host here: "called"
 *   hello CALL TEXT   socket (where there is none), then to GROUP: "said"
 *   say CALL TEXT     to where it is connected: "said", or the error
 *             CALL: send, write, writev (say alone), sendto, sendmsg, sendmmsg
 *   both HOST PORT    one sendmmsg to GROUP and to HOST: "2 sent"
 *   tell HOST PORT TEXT   sendto there; "told"
 *   connect HOST PORT     "connected";  undo   connect to AF_UNSPEC: "undone"
 *   shut rd|wr   shutdown: "shut"
 *   names     what getsockname and getpeername say
 *   waits CALL   another thread waits in recv, read, recvfrom, poll, select or epoll;
 *   woken     what that call came to
 *   hear MS   what arrives within that time, or "nothing"; "end" is an empty datagram
 *   exit  _exit
 * Is not aware of any library.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int fd = -1, child_ends;
static pid_t child;
static struct addrinfo *group;

static void done(const char *what) {
    printf("%s\n", what);
    fflush(stdout);
}

static void join(int to_group, int shared) {
    int on = 1;
    fd = socket(group->ai_family, SOCK_DGRAM, 0);
    if (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on))
        err(1, "SO_REUSEADDR");
    struct sockaddr_storage any = {.ss_family = (sa_family_t)group->ai_family};
    ((struct sockaddr_in *)&any)->sin_port = ((struct sockaddr_in *)group->ai_addr)->sin_port;
    if (bind(fd, to_group ? group->ai_addr : (struct sockaddr *)&any, group->ai_addrlen))
        err(1, "bind");
    struct group_req r = {0};
    memcpy(&r.gr_group, group->ai_addr, group->ai_addrlen);
    int level = group->ai_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    if (setsockopt(fd, level, MCAST_JOIN_GROUP, &r, sizeof r))
        err(1, "join");
    done("joined");
}

static void leave(void) {
    struct group_req r = {0};
    memcpy(&r.gr_group, group->ai_addr, group->ai_addrlen);
    int level = group->ai_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    if (setsockopt(fd, level, MCAST_LEAVE_GROUP, &r, sizeof r))
        err(1, "leave");
    done("left");
}

static void woken(int number) { (void)number; }

static void *wait_in_recv(void *result) {
    char bytes[100];
    *(long *)result = recv(fd, bytes, sizeof bytes, 0);
    return NULL;
}

static void over(void) {
    int null = open("/dev/null", O_RDWR);
    if (dup2(null, fd) != fd)
        err(1, "dup2");
    close(null);
}

static void blocked(void) {
    struct sigaction action = {.sa_handler = woken};
    sigaction(SIGUSR1, &action, NULL);
    long result = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_in_recv, &result))
        exit(1);
    usleep(100000);
    over();
    pthread_kill(thread, SIGUSR1);
    pthread_join(thread, NULL);
    done(result < 0 ? "woken" : "a datagram");
}

static void *wait_in(void *call) {
    char bytes[100];
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    struct iovec part = {bytes, sizeof bytes};
    struct mmsghdr m = {.msg_hdr = {.msg_name = &from, .msg_namelen = sizeof from,
                                    .msg_iov = &part, .msg_iovlen = 1}};
    if (!strcmp(call, "recv"))
        recv(fd, bytes, sizeof bytes, 0);
    else if (!strcmp(call, "recvfrom"))
        recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length);
    else if (!strcmp(call, "recvmsg"))
        recvmsg(fd, &m.msg_hdr, 0);
    else if (!strcmp(call, "recvmmsg"))
        recvmmsg(fd, &m, 1, 0, NULL);
    return NULL;
}

static void cancel(char *call) {
    pthread_t thread;
    void *result = NULL;
    if (pthread_create(&thread, NULL, wait_in, call))
        exit(1);
    usleep(50000);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    done(result == PTHREAD_CANCELED ? "cancelled" : "returned");
}

static void hold_in_child(void) {
    int ends[2];
    if (pipe(ends))
        err(1, "pipe");
    child_ends = ends[1];
    child = fork();
    if (!child) {
        char byte;
        close(ends[1]);
        int failed = read(ends[0], &byte, 1) != 0;
        _exit(failed ? 1 : recv(fd, &byte, 1, MSG_DONTWAIT) == 1 ? byte : 0);
    }
    close(ends[0]);
    close(fd);
    done("closed");
}

static void use_in_child(void) {
    pid_t user = fork();
    if (!user) {
        struct sockaddr_storage name = {0}, other = {.ss_family = (sa_family_t)group->ai_family};
        socklen_t length = sizeof name;
        int same = !getsockname(fd, (struct sockaddr *)&name, &length) &&
                   ((struct sockaddr_in *)&name)->sin_port ==
                       ((struct sockaddr_in *)group->ai_addr)->sin_port;
        ((struct sockaddr_in *)&other)->sin_port = htons(9);
        int connected = !connect(fd, (struct sockaddr *)&other, group->ai_addrlen);
        other.ss_family = AF_UNSPEC;
        int disconnected = !connect(fd, (struct sockaddr *)&other, group->ai_addrlen);
        _exit(!(same && connected && disconnected && !close(fd)));
    }
    int status = 1;
    waitpid(user, &status, 0);
    done(status ? "it fails" : "it is over");
}

static void hear(int ms) {
    char bytes[2048];
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, ms) != 1) {
        done("nothing");
        return;
    }
    ssize_t got = recvfrom(fd, bytes, sizeof bytes - 1, 0, (struct sockaddr *)&from, &length);
    if (got < 0) {
        done(strerrorname_np(errno));
        return;
    }
    bytes[got] = 0;
    char host[100], port[20];
    getnameinfo((struct sockaddr *)&from, length, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    printf("%s from %s %s\n", got ? bytes : "end", host, port);
    fflush(stdout);
}

static void answer(const char *what, long result) {
    done(result < 0 ? strerrorname_np(errno) : what);
}

static void make(const char *options) {
    int on = 1;
    fd = socket(group->ai_family, SOCK_DGRAM | (strstr(options, "nonblocking") ? SOCK_NONBLOCK : 0), 0);
    if (strstr(options, "shared") && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on))
        err(1, "SO_REUSEADDR");
    struct sockaddr_storage any = {.ss_family = (sa_family_t)group->ai_family};
    ((struct sockaddr_in *)&any)->sin_port = htons(6000);
    if (strstr(options, "bound") && bind(fd, (struct sockaddr *)&any, group->ai_addrlen))
        err(1, "bind");
}

static void call(const char *options) {
    make(options);
    answer("called", connect(fd, group->ai_addr, group->ai_addrlen));
}

/* By the call that the line begins with, of the text that follows. */
static void speak(char *line, const struct addrinfo *to) {
    char *text = strchr(line, ' ') + 1;
    size_t length = strlen(text);
    struct iovec parts[2] = {{text, 1}, {text + 1, length - 1}};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = parts, .msg_iovlen = 2}};
    long result = -1;
    if (to) {
        m.msg_hdr.msg_name = to->ai_addr;
        m.msg_hdr.msg_namelen = to->ai_addrlen;
    }
    if (!strncmp(line, "sendto ", 7))
        result = sendto(fd, text, length, 0, to ? to->ai_addr : NULL, to ? to->ai_addrlen : 0);
    else if (!strncmp(line, "sendmsg ", 8))
        result = sendmsg(fd, &m.msg_hdr, 0);
    else if (!strncmp(line, "sendmmsg ", 9))
        result = sendmmsg(fd, &m, 1, 0) == 1 ? (long)m.msg_len : -1;
    else if (!strncmp(line, "send ", 5))
        result = send(fd, text, length, 0);
    else if (!strncmp(line, "write ", 6))
        result = write(fd, text, length);
    else if (!strncmp(line, "writev ", 7))
        result = writev(fd, parts, 2);
    if (result >= 0 && result != (long)length)
        exit(5);
    answer("said", result);
}

static void hello(char *line) {
    if (fd < 0)
        make("");
    speak(line, group);
}

/* HOST PORT, beside GROUP. */
static void both(char *line) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM}, *to;
    char *port = strchr(line, ' ');
    *port++ = 0;
    if (getaddrinfo(line, port, &hints, &to))
        exit(4);
    struct iovec part = {(char *)"each", 4};
    struct msghdr first = {.msg_name = group->ai_addr, .msg_namelen = group->ai_addrlen,
                           .msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr m[2] = {{.msg_hdr = first}, {.msg_hdr = first}};
    m[1].msg_hdr.msg_name = to->ai_addr;
    m[1].msg_hdr.msg_namelen = to->ai_addrlen;
    int sent = sendmmsg(fd, m, 2, 0);
    answer(sent == 2 ? "2 sent" : "not both", sent);
    freeaddrinfo(to);
}

/* HOST PORT TEXT: sent there; HOST PORT: connected to. */
static void elsewhere(const char *line) {
    char host[60], port[10], text[60];
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM}, *to;
    int words = sscanf(line, "%59s %9s %59s", host, port, text);
    if (words < 2 || getaddrinfo(host, port, &hints, &to))
        exit(4);
    if (words == 3)
        answer("told", sendto(fd, text, strlen(text), 0, to->ai_addr, to->ai_addrlen));
    else
        answer("connected", connect(fd, to->ai_addr, to->ai_addrlen));
    freeaddrinfo(to);
}

static void undo(void) {
    struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    answer("undone", connect(fd, &nowhere, sizeof nowhere));
}

static void show_name(int (*of)(int, struct sockaddr *, socklen_t *), const char *end) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    char host[100], port[20];
    if (of(fd, (struct sockaddr *)&name, &length)) {
        printf("%s%s", strerrorname_np(errno), end);
        return;
    }
    getnameinfo((struct sockaddr *)&name, length, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    printf("%s %s%s", host, port, end);
}

static void names(void) {
    show_name(getsockname, " to ");
    show_name(getpeername, "\n");
    fflush(stdout);
}

static pthread_t waiter;
static long came_to;
static int failed;

static void *wait_for_word(void *call) {
    char bytes[100];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    errno = 0;
    if (!strcmp(call, "recv")) {
        came_to = recv(fd, bytes, sizeof bytes, 0);
    } else if (!strcmp(call, "read")) {
        came_to = read(fd, bytes, sizeof bytes);
    } else if (!strcmp(call, "recvfrom")) {
        struct sockaddr_storage from;
        socklen_t length = sizeof from;
        came_to = recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length);
    } else {
        if (!strcmp(call, "poll")) {
            poll(&p, 1, -1);
        } else if (!strcmp(call, "select")) {
            fd_set set;
            FD_ZERO(&set);
            FD_SET(fd, &set);
            select(fd + 1, &set, NULL, NULL, NULL);
        } else {
            struct epoll_event event = {.events = EPOLLIN | EPOLLET};
            int epoll = epoll_create1(0);
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
            epoll_wait(epoll, &event, 1, -1);
            close(epoll);
        }
        came_to = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    }
    failed = errno;
    free(call);
    return NULL;
}

static void waits(const char *call) {
    if (pthread_create(&waiter, NULL, wait_for_word, strdup(call)))
        exit(1);
    usleep(50000);
    done("waits");
}

static void woken_by(void) {
    pthread_join(waiter, NULL);
    if (came_to < 0)
        printf("%s\n", strerrorname_np(failed));
    else
        printf("%ld bytes\n", came_to);
    fflush(stdout);
}

int main(int argc, char **argv) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM};
    if (argc != 3 || getaddrinfo(argv[1], argv[2], &hints, &group))
        return 2;
    char line[100];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "join", 4)) {
            join(strstr(line, "group") != NULL, strstr(line, "shared") != NULL);
        } else if (!strcmp(line, "leave")) {
            leave();
        } else if (!strcmp(line, "close")) {
            close(fd);
            fd = -1;
            done("closed");
        } else if (!strcmp(line, "raw")) {
            syscall(SYS_close, fd);
            done("closed");
        } else if (!strcmp(line, "range")) {
            close_range((unsigned)fd, ~0U, 0);
            done("closed");
        } else if (!strcmp(line, "over")) {
            over();
            close(fd);
            done("closed");
        } else if (!strcmp(line, "blocked")) {
            blocked();
        } else if (!strcmp(line, "twice")) {
            int other = dup(fd);
            close(fd);
            fd = other;
            done("closed once");
        } else if (!strncmp(line, "cancel ", 7)) {
            cancel(line + 7);
        } else if (!strcmp(line, "child")) {
            hold_in_child();
        } else if (!strcmp(line, "forked")) {
            use_in_child();
        } else if (!strcmp(line, "end")) {
            int status = 0;
            close(child_ends);
            waitpid(child, &status, 0);
            if (status)
                printf("ended with %c\n", WEXITSTATUS(status));
            else
                printf("ended\n");
            fflush(stdout);
        } else if (!strncmp(line, "call", 4)) {
            call(line + 4);
        } else if (!strncmp(line, "hello ", 6)) {
            hello(line + 6);
        } else if (!strncmp(line, "say ", 4)) {
            speak(line + 4, NULL);
        } else if (!strncmp(line, "both ", 5)) {
            both(line + 5);
        } else if (!strncmp(line, "shut ", 5)) {
            answer("shut", shutdown(fd, line[5] == 'r' ? SHUT_RD : SHUT_WR));
        } else if (!strncmp(line, "tell ", 5)) {
            elsewhere(line + 5);
        } else if (!strncmp(line, "connect ", 8)) {
            elsewhere(line + 8);
        } else if (!strcmp(line, "undo")) {
            undo();
        } else if (!strcmp(line, "names")) {
            names();
        } else if (!strncmp(line, "waits ", 6)) {
            waits(line + 6);
        } else if (!strcmp(line, "woken")) {
            woken_by();
        } else if (!strncmp(line, "hear ", 5)) {
            hear(atoi(line + 5));
        } else if (!strcmp(line, "exit")) {
            exit(0);
        } else if (!strcmp(line, "_exit")) {
            _exit(0);
        } else {
            return 3;
        }
    }
    return 0;
}
