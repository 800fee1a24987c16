/* sends: one numbered datagram by each way there is to send one.
 *
 *   sends GROUP PORT all       every way, once
 *   sends GROUP PORT quiet     three datagrams without IP_MULTICAST_LOOP, three with
 *   sends GROUP PORT waits     connects, says how long that took, sends one
 *   sends GROUP PORT limits    the longest datagram, and one byte more
 *   sends GROUP PORT shuts     sends, shuts down, and once more from another socket
 *   sends GROUP PORT goes-on   two sockets, one connected, 10 s long
 *   sends GROUP PORT fails     sends one, says the error
 *
 * Promises: ends by itself, status 1 with a reason where a call that should succeed
 * fails. Is not aware of any library.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_storage group;
static socklen_t length;
static char filling[70000];

#define MUST(call, wanted)                                                  \
    do {                                                                    \
        long answer = (call);                                               \
        if (answer != (long)(wanted))                                       \
            err(1, "%s: %ld instead of %ld", #call, answer, (long)(wanted)); \
    } while (0)

static const struct sockaddr *to(void) { return (struct sockaddr *)&group; }

static int fresh(void) {
    int fd = socket(group.ss_family, SOCK_DGRAM, 0);
    if (fd < 0)
        err(1, "socket");
    return fd;
}

static void all(void) {
    int fd = fresh();
    MUST(sendto(fd, "01 sendto", 9, 0, to(), length), 9);
    struct iovec parts[4] = {{"02 ", 3}, {"", 0}, {"send", 4}, {"msg", 3}};
    struct msghdr header = {.msg_name = &group, .msg_namelen = length, .msg_iov = parts, .msg_iovlen = 4};
    MUST(sendmsg(fd, &header, 0), 10);

    struct sockaddr_storage own = group;
    socklen_t own_length = length;
    int listener = fresh();
    /* One message of several goes elsewhere. */
    if (group.ss_family == AF_INET)
        ((struct sockaddr_in *)&own)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (IN6_IS_ADDR_V4MAPPED(&((struct sockaddr_in6 *)&own)->sin6_addr))
        memcpy(((struct sockaddr_in6 *)&own)->sin6_addr.s6_addr + 12, "\x7f\0\0\1", 4);
    else
        ((struct sockaddr_in6 *)&own)->sin6_addr = in6addr_loopback;
    ((struct sockaddr_in *)&own)->sin_port = 0;
    MUST(bind(listener, (struct sockaddr *)&own, own_length), 0);
    MUST(getsockname(listener, (struct sockaddr *)&own, &own_length), 0);
    struct iovec texts[4] = {{"03 sendmmsg", 11}, {"04 sendmmsg", 11}, {"elsewhere", 9}, {"05 sendmmsg", 11}};
    struct mmsghdr several[4] = {0};
    for (int i = 0; i < 4; i++)
        several[i].msg_hdr = (struct msghdr){.msg_name = i == 2 ? &own : &group, .msg_namelen = length,
                                             .msg_iov = &texts[i], .msg_iovlen = 1};
    MUST(sendmmsg(fd, several, 4, 0), 4);
    for (int i = 0; i < 4; i++)
        MUST(several[i].msg_len, texts[i].iov_len);
    MUST(recv(listener, filling, sizeof filling, 0), 9);
    MUST(memcmp(filling, "elsewhere", 9), 0);
    memset(filling, 0, 9);

    int other = fresh();
    MUST(connect(other, to(), length), 0);
    MUST(send(other, "06 send", 7, 0), 7);
    MUST(write(other, "07 write", 8), 8);
    struct iovec two[2] = {{"08 ", 3}, {"writev", 6}};
    MUST(writev(other, two, 2), 9);
    header = (struct msghdr){.msg_iov = two, .msg_iovlen = 2};
    two[0].iov_base = "09 ";
    MUST(sendmsg(other, &header, MSG_DONTWAIT), 9);
    struct mmsghdr one = {header};
    two[0].iov_base = "10 ";
    MUST(sendmmsg(other, &one, 1, 0), 1);
    MUST(send(other, "11 in ", 6, MSG_MORE), 6);
    MUST(send(other, "parts", 5, 0), 5);
    MUST(send(other, "", 0, 0), 0);
    MUST(sendto(other, "13 by name", 10, 0, to(), length), 10);
    int copy = dup(other);
    close(other);
    MUST(send(copy, "14 by a copy", 12, 0), 12);

    char control[CMSG_SPACE(2)] = {0};
    struct iovec long_parts[2] = {{"15 long, in segments of ten", 27}, {filling, 3}};
    header = (struct msghdr){.msg_iov = long_parts, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *message = CMSG_FIRSTHDR(&header);
    message->cmsg_level = SOL_UDP, message->cmsg_type = UDP_SEGMENT, message->cmsg_len = CMSG_LEN(2);
    memcpy(CMSG_DATA(message), &(uint16_t){10}, 2);
    MUST(sendmsg(copy, &header, 0), 30);
    MUST(setsockopt(copy, SOL_UDP, UDP_SEGMENT, &(int){4}, sizeof(int)), 0);
    MUST(send(copy, "16 six", 6, 0), 6);
    MUST(setsockopt(copy, SOL_UDP, UDP_SEGMENT, &(int){0}, sizeof(int)), 0);

    pid_t child = fork();
    if (!child) {
        /* It inherits a connected socket, and sends to the same channel. */
        MUST(send(copy, "17 by a child", 13, 0), 13);
        /* What was handed to the other process is there before this one is gone. */
        exit(close(fd) || close(copy));
    }
    int status;
    MUST(waitpid(child, &status, 0), child);
    MUST(status, 0);
    MUST(send(copy, "18 after a fork", 15, 0), 15);
    MUST(fcntl(copy, F_SETFL, O_NONBLOCK), 0);
    MUST(send(copy, "19 never waiting", 16, 0), 16);
    MUST(send(copy, "last", 4, 0), 4);
}

static void quiet(void) {
    int fd = fresh();
    for (int on = 0; on < 2; on++) {
        if (group.ss_family == AF_INET)
            MUST(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &on, sizeof on), 0);
        else
            MUST(setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &on, sizeof on), 0);
        for (int i = 0; i < 3; i++)
            MUST(sendto(fd, on ? "heard" : "unheard", on ? 5 : 7, 0, to(), length), on ? 5 : 7);
    }
    MUST(sendto(fd, "last", 4, 0, to(), length), 4);
}

static void waits(void) {
    struct timespec before, after;
    int fd = fresh();
    clock_gettime(CLOCK_MONOTONIC, &before);
    MUST(connect(fd, to(), length), 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    printf("%ld\n", (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000);
    MUST(send(fd, "last", 4, 0), 4);
}

static void limits(void) {
    int fd = fresh();
    struct sockaddr_in6 *name = (struct sockaddr_in6 *)&group;
    long most = group.ss_family == AF_INET || IN6_IS_ADDR_V4MAPPED(&name->sin6_addr) ? 65491 : 65511;
    MUST(sendto(fd, filling, most + 1, 0, to(), length), -1);
    MUST(errno, EMSGSIZE);
    MUST(sendto(fd, filling, most, 0, to(), length), most);
    MUST(sendto(fd, "last", 4, 0, to(), length), 4);
}

static void shuts(void) {
    for (int i = 0; i < 2; i++) {
        int fd = fresh();
        MUST(connect(fd, to(), length), 0);
        MUST(send(fd, i ? "second" : "first", i ? 6 : 5, 0), i ? 6 : 5);
        MUST(shutdown(fd, SHUT_WR), 0);
        MUST(send(fd, "never", 5, MSG_NOSIGNAL), -1);
        MUST(errno, EPIPE);
        /* The end is told in the background, and asked for again after it. */
        sleep(2);
    }
}

/* For 10 s, not connected and connected, whoever is there. */
static void goes_on(void) {
    int fd = fresh(), connected = fresh();
    MUST(connect(connected, to(), length), 0);
    for (int n = 0; n < 200; n++, usleep(50000)) {
        MUST(sendto(fd, "sendto", 6, 0, to(), length), 6);
        MUST(send(connected, "send", 4, 0), 4);
    }
}

static void fails(void) {
    int fd = fresh();
    for (int i = 0; i < 3; i++) {
        errno = 0;
        long answer = sendto(fd, "nobody", 6, 0, to(), length);
        printf("%ld %s\n", answer, strerrorname_np(errno));
    }
}

int main(int count, char **words) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM}, *found;
    if (count != 4 || getaddrinfo(words[1], words[2], &hints, &found))
        return 2;
    memcpy(&group, found->ai_addr, found->ai_addrlen);
    length = found->ai_addrlen;
    alarm(30);
    !strcmp(words[3], "all") ? all() : !strcmp(words[3], "quiet") ? quiet()
        : !strcmp(words[3], "waits") ? waits() : !strcmp(words[3], "limits") ? limits()
        : !strcmp(words[3], "shuts") ? shuts()
        : !strcmp(words[3], "goes-on") ? goes_on() : fails();
    return 0;
}
