/* calls: every call of a sending program, and what it answers.
 *
 *   calls GROUP PORT UNICAST
 *
 * Prints one line a call: what it returned, the error, what it told. UNICAST is an
 * address of this host (of the group's family, v4-mapped for a v4-mapped GROUP) at
 * which the program itself listens, to see which datagrams went there.
 * Promises: the same lines wherever multicast manners are kept: with the kernel's
 * multicast, and without. Is not aware of any library.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_storage group, heard_at;
static socklen_t name_length;
static int listener;
static char bytes[70000];

static void say(const char *what, long answer) {
    int error = errno;
    if (answer < 0)
        printf("%s: %s\n", what, strerrorname_np(error));
    else
        printf("%s: %ld\n", what, answer);
    errno = 0;
}

/* Calls leave errno alone where they do not fail. */
#define TRY(what, call)                                        \
    do {                                                       \
        errno = 77;                                            \
        long answer = (call);                                  \
        if (answer >= 0 && errno != 77)                        \
            printf("%s: errno changed to %d\n", what, errno);  \
        say(what, answer);                                     \
    } while (0)

static void make(const char *text, const char *port, struct sockaddr_storage *name) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM}, *found;
    if (getaddrinfo(text, port, &hints, &found))
        exit(2);
    memcpy(name, found->ai_addr, found->ai_addrlen);
    name_length = found->ai_addrlen;
}

static void show(const char *what, const struct sockaddr_storage *name, socklen_t length) {
    char host[100], port[20];
    if (getnameinfo((const struct sockaddr *)name, length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV))
        printf("%s: no name of %d bytes\n", what, length);
    else
        printf("%s: %s port %s length %d\n", what, host,
               memcmp(name, &group, 4) && memcmp(name, &heard_at, 4)
                   ? (strcmp(port, "0") ? "some" : "none") : "known",
               length);
}

static void peer(int fd);

static void names(int fd) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    errno = 77;
    long answer = getsockname(fd, (struct sockaddr *)&name, &length);
    answer < 0 ? say("getsockname", answer) : show("getsockname", &name, length);
    peer(fd);
}

static void peer(int fd) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    long answer = getpeername(fd, (struct sockaddr *)&name, &length);
    answer < 0 ? say("getpeername", answer) : show("getpeername", &name, length);
    length = 3;
    memset(&name, 0xee, sizeof name);
    answer = getpeername(fd, (struct sockaddr *)&name, &length);
    if (!answer)
        printf("getpeername in 3 bytes: length %d, rest %s\n", length,
               ((unsigned char *)&name)[3] == 0xee ? "untouched" : "written");
}

static void drain(void) {
    for (;;) {
        /* Loopback delivers before send returns; the wait is for slow machines. */
        ssize_t length = recv(listener, bytes, sizeof bytes, MSG_DONTWAIT);
        if (length < 0)
            break;
        printf("  arrived at the unicast address: %zd\n", length);
    }
    errno = 0;
}

static const struct sockaddr *at(struct sockaddr_storage *name) { return (struct sockaddr *)name; }

static int fresh(void) {
    int fd = socket(group.ss_family, SOCK_DGRAM, 0);
    if (fd < 0)
        exit(3);
    return fd;
}

static void listen_at_unicast(void) {
    socklen_t length = sizeof heard_at;
    listener = fresh();
    if (bind(listener, at(&heard_at), name_length) ||
        getsockname(listener, (struct sockaddr *)&heard_at, &length))
        exit(4);
}

static void options(int fd) {
    int one = 1, four = 4;
    unsigned char off = 0;
    if (group.ss_family == AF_INET) {
        TRY("TTL", setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &four, sizeof four));
        TRY("LOOP", setsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &off, sizeof off));
        TRY("LOOP", setsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &one, sizeof one));
        struct ip_mreqn out = {.imr_ifindex = (int)if_nametoindex("v0")};
        TRY("IF by index", setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof out));
        struct in_addr address = {inet_addr("10.0.0.5")};
        TRY("IF by address", setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &address, sizeof address));
    } else {
        TRY("HOPS", setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &four, sizeof four));
        TRY("LOOP", setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &one, sizeof one));
        int out = (int)if_nametoindex("v0");
        TRY("IF", setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &out, sizeof out));
    }
    TRY("SNDBUF", setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){100000}, sizeof(int)));
    TRY("no option", setsockopt(fd, SOL_SOCKET, 9999, &one, sizeof one));
}

static void unconnected(void) {
    puts("-- unconnected");
    int fd = fresh();
    names(fd);
    options(fd);
    TRY("sendto", sendto(fd, bytes, 1316, 0, at(&group), name_length));
    TRY("sendto nothing", sendto(fd, bytes, 0, 0, at(&group), name_length));
    TRY("sendto, not waiting", sendto(fd, bytes, 100, MSG_DONTWAIT | MSG_NOSIGNAL, at(&group), name_length));
    TRY("sendto too long", sendto(fd, bytes, 66000, 0, at(&group), name_length));
    TRY("sendto from nowhere", sendto(fd, NULL, 10, 0, at(&group), name_length));
    TRY("sendto unicast", sendto(fd, bytes, 11, 0, at(&heard_at), name_length));
    TRY("sendto nobody", sendto(fd, bytes, 10, 0, NULL, 0));
    names(fd);
    struct iovec parts[3] = {{bytes, 10}, {bytes, 0}, {bytes, 22}};
    struct msghdr header = {.msg_name = &group, .msg_namelen = name_length, .msg_iov = parts, .msg_iovlen = 3};
    TRY("sendmsg", sendmsg(fd, &header, 0));
    header.msg_iovlen = 0;
    TRY("sendmsg nothing", sendmsg(fd, &header, 0));
    header.msg_iovlen = 2000;
    TRY("sendmsg too many", sendmsg(fd, &header, 0));
    struct mmsghdr several[5] = {0};
    for (int i = 0; i < 5; i++)
        several[i].msg_hdr = (struct msghdr){.msg_name = i == 2 ? &heard_at : &group,
            .msg_namelen = name_length, .msg_iov = parts + (i & 1) * 2, .msg_iovlen = 1};
    TRY("sendmmsg", sendmmsg(fd, several, 5, 0));
    for (int i = 0; i < 5; i++)
        printf("  message %d: %u\n", i, several[i].msg_len);
    several[1].msg_hdr.msg_iovlen = 2000;
    TRY("sendmmsg with a bad second", sendmmsg(fd, several, 5, 0));
    several[0].msg_hdr.msg_iovlen = 2000;
    TRY("sendmmsg with a bad first", sendmmsg(fd, several, 5, 0));
    drain();
    TRY("close", close(fd));
    TRY("close again", close(fd));
    TRY("sendto closed", sendto(fd, bytes, 10, 0, at(&group), name_length));
}

static void connected(void) {
    puts("-- connected");
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    int fd = fresh();
    TRY("connect", connect(fd, at(&group), name_length));
    names(fd);
    TRY("send", send(fd, bytes, 1316, 0));
    TRY("send nothing", send(fd, bytes, 0, 0));
    TRY("write", write(fd, bytes, 1316));
    TRY("write nothing", write(fd, bytes, 0));
    struct iovec parts[7];
    for (int i = 0; i < 7; i++)
        parts[i] = (struct iovec){bytes, 188};
    TRY("writev", writev(fd, parts, 7));
    TRY("writev nothing", writev(fd, parts, 0));
    volatile int minus = -1;
    TRY("writev minus", writev(fd, parts, minus));
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = 7};
    TRY("sendmsg", sendmsg(fd, &header, MSG_NOSIGNAL));
    struct mmsghdr several[3] = {{header}, {header}, {header}};
    TRY("sendmmsg", sendmmsg(fd, several, 3, 0));
    TRY("first part", send(fd, bytes, 100, MSG_MORE));
    TRY("last part", send(fd, bytes, 100, 0));
    TRY("sendto elsewhere", sendto(fd, bytes, 12, 0, at(&heard_at), name_length));
    drain();
    /* The kernel would go on showing the first connection's local address. */
    TRY("connect elsewhere", connect(fd, at(&heard_at), name_length));
    peer(fd);
    TRY("send", send(fd, bytes, 13, 0));
    TRY("write", write(fd, bytes, 14));
    TRY("writev", writev(fd, parts, 2));
    drain();
    TRY("connect back", connect(fd, at(&group), name_length));
    peer(fd);
    TRY("send", send(fd, bytes, 15, 0));
    TRY("close", close(fd));
    fd = fresh();
    TRY("connect", connect(fd, at(&group), name_length));
    TRY("connect nowhere", connect(fd, &none, sizeof none));
    names(fd);
    TRY("send", send(fd, bytes, 16, 0));
    TRY("write", write(fd, bytes, 16));
    TRY("connect short", connect(fd, at(&group), 5));
    TRY("connect", connect(fd, at(&group), name_length));
    TRY("shutdown badly", shutdown(fd, 7));
    TRY("shutdown reading", shutdown(fd, SHUT_RD));
    TRY("send", send(fd, bytes, 17, 0));
    TRY("shutdown writing", shutdown(fd, SHUT_WR));
    TRY("send", send(fd, bytes, 18, 0));
    drain();
    TRY("close", close(fd));
}

static void duplicates(void) {
    puts("-- duplicates");
    int fd = fresh();
    TRY("connect", connect(fd, at(&group), name_length));
    int copies[] = {dup(fd), fcntl(fd, F_DUPFD, 100), fcntl(fd, F_DUPFD_CLOEXEC, 100), dup2(fd, 200), dup3(fd, 201, O_CLOEXEC)};
    TRY("close", close(fd));
    for (int i = 0; i < 5; i++) {
        printf("copy %d\n", i);
        TRY("send", send(copies[i], bytes, 20, 0));
        names(copies[i]);
    }
    TRY("dup2 over itself", dup2(200, 200) - 200);
    TRY("dup3 over itself", dup3(200, 200, 0));
    TRY("dup2 of nothing", dup2(999, 200));
    TRY("send", send(200, bytes, 20, 0));
    int plain = fresh();
    TRY("dup2 of another over it", dup2(plain, 200) - 200);
    names(200);
    TRY("send", send(200, bytes, 20, 0));
    TRY("send by the last copy", send(201, bytes, 20, 0));
    TRY("close_range", close_range(100, 300, 0));
    TRY("send", send(201, bytes, 20, 0));
    FILE *stream = fdopen(copies[0], "w");
    TRY("fclose", fclose(stream));
    TRY("send", send(copies[0], bytes, 20, 0));
    close(plain);

    fd = fresh();
    TRY("connect", connect(fd, at(&group), name_length));
    int number = fd;
    TRY("close by number", syscall(SYS_close, fd));
    TRY("send", send(number, bytes, 20, 0));
    int two[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, two);
    printf("the number is used again: %d\n", two[0] == number);
    TRY("send", send(number, bytes, 21, 0));
    TRY("recv", recv(two[1], bytes, sizeof bytes, MSG_DONTWAIT));
    names(number);
    close(two[0]), close(two[1]);

    fd = fresh();
    TRY("connect", connect(fd, at(&group), name_length));
    closefrom(fd);
    TRY("send", send(fd, bytes, 20, 0));
}

static void segments(void) {
    puts("-- segments");
    int fd = fresh(), size = 500;
    char control[CMSG_SPACE(2)] = {0};
    struct iovec part = {bytes, 1300};
    struct msghdr header = {.msg_name = &group, .msg_namelen = name_length, .msg_iov = &part,
                            .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *message = CMSG_FIRSTHDR(&header);
    message->cmsg_level = SOL_UDP, message->cmsg_type = UDP_SEGMENT, message->cmsg_len = CMSG_LEN(2);
    memcpy(CMSG_DATA(message), &(uint16_t){500}, 2);
    TRY("sendmsg in segments", sendmsg(fd, &header, 0));
    TRY("UDP_SEGMENT", setsockopt(fd, SOL_UDP, UDP_SEGMENT, &size, sizeof size));
    TRY("sendto in segments", sendto(fd, bytes, 1300, 0, at(&group), name_length));
    TRY("close", close(fd));
}

/* A child of fork must get along; what it inherits, it may at least close. */
static void children(void) {
    puts("-- children");
    int fd = fresh();
    TRY("sendto", sendto(fd, bytes, 10, 0, at(&group), name_length));
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        alarm(5);
        long one = close(fd);
        int mine = fresh();
        long two = sendto(mine, bytes, 11, 0, at(&heard_at), name_length);
        _exit(one == 0 && two == 11 ? 7 : 8);
    }
    int status;
    waitpid(child, &status, 0);
    printf("child: %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    child = vfork();
    if (!child) {
        close(fd);
        _exit(9);
    }
    waitpid(child, &status, 0);
    printf("vfork's child: %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    TRY("sendto", sendto(fd, bytes, 10, 0, at(&group), name_length));
    drain();
    TRY("close", close(fd));
}

int main(int count, char **words) {
    if (count != 4)
        return 2;
    alarm(30);
    make(words[3], "0", &heard_at);
    make(words[1], words[2], &group);
    listen_at_unicast();
    unconnected();
    connected();
    duplicates();
    segments();
    children();
    return 0;
}
