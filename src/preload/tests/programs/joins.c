/* joins: every way of joining a group, and what each call answers.
 *
 *   joins TOPIC GROUP PORT SOURCE
 *
 * SOURCE is this host's address (of the group's family, v4-mapped for a v4-mapped
 * GROUP), from which the program itself sends to the group. Topics: options, late,
 * shapes, names, sources, connect, own, numbers,
 * copied, calls.
 * Promises: the same lines wherever multicast manners are kept: with the kernel's
 * multicast, and without. Waits for a stream to begin, up to 10 s, and says where it
 * does not. Is not aware of any library.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_storage group, source, any;
static socklen_t name_length;
static int mapped;        /* an AF_INET6 socket, IPv4 options */
static int level;         /* of options about groups */
static unsigned device;
static int sender;
static struct sockaddr_storage sender_name;

static void say(const char *what, long answer) {
    int error = errno;
    if (answer < 0)
        printf("%s: %s\n", what, strerrorname_np(error));
    else
        printf("%s: %ld\n", what, answer);
    fflush(stdout);
}

/* Calls leave errno alone where they do not fail. */
#define TRY(what, call)                                        \
    do {                                                       \
        errno = 77;                                            \
        long answer_ = (call);                                 \
        if (answer_ >= 0 && errno != 77)                       \
            printf("%s: errno changed to %d\n", what, errno);  \
        say(what, answer_);                                    \
    } while (0)

static void make(const char *text, const char *port, struct sockaddr_storage *name) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM}, *found;
    if (getaddrinfo(text, port, &hints, &found))
        exit(2);
    memcpy(name, found->ai_addr, found->ai_addrlen);
    name_length = found->ai_addrlen;
}

static in_port_t port_of(const struct sockaddr_storage *name) {
    return ((const struct sockaddr_in *)name)->sin_port; /* at the same place in both */
}

static void set_port(struct sockaddr_storage *name, in_port_t port) {
    ((struct sockaddr_in *)name)->sin_port = port;
}

static const char *host_of(const struct sockaddr_storage *name) {
    static char host[100];
    if (getnameinfo((const struct sockaddr *)name, name_length, host, sizeof host, NULL, 0,
                    NI_NUMERICHOST))
        return "?";
    return host;
}

static void show(const char *what, const struct sockaddr_storage *name, socklen_t length) {
    in_port_t port = port_of(name);
    const char *which = !port                         ? "none"
                        : port == port_of(&group)       ? "the group's"
                        : port == port_of(&sender_name) ? "the sender's"
                                                        : "another";
    printf("%s: %s, port %s, length %d\n", what, host_of(name), which, length);
}

static void name_of(int fd) {
    struct sockaddr_storage name = {0};
    socklen_t length = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &length))
        say("getsockname", -1);
    else
        show("getsockname", &name, length);
    length = sizeof name;
    if (getpeername(fd, (struct sockaddr *)&name, &length))
        say("getpeername", -1);
    else
        show("getpeername", &name, length);
}

static void nap(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static int readable(int fd, int ms) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1 && p.revents & POLLIN;
}

static void push(const char *text) {
    if (sendto(sender, text, strlen(text), 0, (struct sockaddr *)&group, name_length) < 0)
        say("push", -1);
}

/* Everything queued is taken, until nothing has come for a while. */
static void drain(int fd) {
    char bytes[100];
    while (readable(fd, 60))
        recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
}

/* Waits until what is pushed arrives. */
static void await(int fd) {
    for (int n = 0; n < 500; n++) {
        push("begin");
        if (readable(fd, 20)) {
            drain(fd);
            return;
        }
    }
    printf("nothing arrives\n");
}

/* Whether what is pushed arrives, once. */
static void hears(const char *what, int fd) {
    char bytes[100];
    int count = 0;
    push("word");
    while (readable(fd, count ? 40 : 200)) {
        long got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        count += got == 4 && !memcmp(bytes, "word", 4);
    }
    printf("%s: hears it %d times\n", what, count);
    fflush(stdout);
}

static int make_socket(void) { return socket(group.ss_family, SOCK_DGRAM, 0); }

static void share(int fd, int reuse_address, int reuse_port) {
    if (reuse_address)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse_address, sizeof reuse_address);
    if (reuse_port)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &reuse_port, sizeof reuse_port);
}

/* Bound to any address, or to the group. */
static int bound(int to_group, int shares) {
    int fd = make_socket();
    share(fd, shares, 0);
    TRY("bind", bind(fd, (struct sockaddr *)(to_group ? &group : &any), name_length));
    return fd;
}

enum { JOIN, LEAVE, ADD, DROP, BLOCK, UNBLOCK };

/* The oldest shapes there are for it. */
static int plain(int fd, int what, const struct sockaddr_storage *to,
                 const struct sockaddr_storage *from, unsigned index) {
    static const int generic[] = {MCAST_JOIN_GROUP,          MCAST_LEAVE_GROUP,
                                  MCAST_JOIN_SOURCE_GROUP,   MCAST_LEAVE_SOURCE_GROUP,
                                  MCAST_BLOCK_SOURCE,        MCAST_UNBLOCK_SOURCE};
    static const int four[] = {IP_ADD_MEMBERSHIP,         IP_DROP_MEMBERSHIP,
                               IP_ADD_SOURCE_MEMBERSHIP,  IP_DROP_SOURCE_MEMBERSHIP,
                               IP_BLOCK_SOURCE,           IP_UNBLOCK_SOURCE};
    if (level == IPPROTO_IPV6) {
        if (what >= ADD) {
            struct group_source_req r = {.gsr_interface = index};
            memcpy(&r.gsr_group, to, name_length);
            memcpy(&r.gsr_source, from, name_length);
            return setsockopt(fd, level, generic[what], &r, sizeof r);
        }
        struct ipv6_mreq r = {((struct sockaddr_in6 *)to)->sin6_addr, index};
        return setsockopt(fd, level, what == JOIN ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &r,
                          sizeof r);
    }
    const char *to_at = (const char *)to + (mapped ? 20 : 4);
    const char *from_at = (const char *)from + (mapped ? 20 : 4);
    if (what >= ADD) {
        struct ip_mreq_source r = {0};
        memcpy(&r.imr_multiaddr, to_at, 4);
        memcpy(&r.imr_sourceaddr, from_at, 4);
        return setsockopt(fd, level, four[what], &r, sizeof r);
    }
    struct ip_mreqn r = {.imr_ifindex = (int)index};
    memcpy(&r.imr_multiaddr, to_at, 4);
    return setsockopt(fd, level, four[what], &r, index ? sizeof r : sizeof(struct ip_mreq));
}

/* IPv4 in a sockaddr_storage, whatever the socket's family. */
static void as_option(const struct sockaddr_storage *name, struct sockaddr_storage *option) {
    memset(option, 0, sizeof *option);
    if (!mapped) {
        memcpy(option, name, name_length);
        return;
    }
    struct sockaddr_in *four = (struct sockaddr_in *)option;
    four->sin_family = AF_INET;
    memcpy(&four->sin_addr, (const char *)name + 20, 4);
}

/* The shapes that do not depend on the family. */
static int generic(int fd, int what, const struct sockaddr_storage *to,
                   const struct sockaddr_storage *from, unsigned index) {
    static const int names[] = {MCAST_JOIN_GROUP,        MCAST_LEAVE_GROUP,
                                MCAST_JOIN_SOURCE_GROUP, MCAST_LEAVE_SOURCE_GROUP,
                                MCAST_BLOCK_SOURCE,      MCAST_UNBLOCK_SOURCE};
    if (what < ADD) {
        struct group_req r = {.gr_interface = index};
        as_option(to, &r.gr_group);
        return setsockopt(fd, level, names[what], &r, sizeof r);
    }
    struct group_source_req r = {.gsr_interface = index};
    as_option(to, &r.gsr_group);
    as_option(from, &r.gsr_source);
    return setsockopt(fd, level, names[what], &r, sizeof r);
}

typedef int shape(int, int, const struct sockaddr_storage *, const struct sockaddr_storage *,
                  unsigned);
static const struct {
    const char *name;
    shape *call;
} shapes[] = {{"plain", plain}, {"generic", generic}};

/* The group with its last byte changed. */
static struct sockaddr_storage neighbour(const struct sockaddr_storage *of, int n) {
    struct sockaddr_storage other = *of;
    ((unsigned char *)&other)[of->ss_family == AF_INET ? 7 : 23] += (unsigned char)n;
    return other;
}

static int filter(int fd, unsigned mode, int count) {
    struct {
        struct group_filter head;
        struct sockaddr_storage more[70];
    } r = {.head = {.gf_interface = device, .gf_fmode = mode, .gf_numsrc = (unsigned)count}};
    as_option(&group, &r.head.gf_group);
    for (int n = 0; n < count; n++) {
        struct sockaddr_storage from = neighbour(&source, n);
        as_option(&from, &r.head.gf_slist[n]);
    }
    return setsockopt(fd, level, MCAST_MSFILTER, &r, GROUP_FILTER_SIZE((unsigned)count));
}

static int old_filter(int fd, unsigned mode, int count) {
    struct {
        struct ip_msfilter head;
        struct in_addr more[70];
    } r = {.head = {.imsf_fmode = mode, .imsf_numsrc = (unsigned)count}};
    memcpy(&r.head.imsf_multiaddr, (char *)&group + (mapped ? 20 : 4), 4);
    for (int n = 0; n < count; n++) {
        struct sockaddr_storage from = neighbour(&source, n);
        memcpy(&r.head.imsf_slist[n], (char *)&from + (mapped ? 20 : 4), 4);
    }
    return setsockopt(fd, level, IP_MSFILTER, &r, IP_MSFILTER_SIZE((unsigned)count));
}

static void read_filter(int fd, unsigned room) {
    struct {
        struct group_filter head;
        struct sockaddr_storage more[20];
    } r = {.head = {.gf_interface = device, .gf_numsrc = room}};
    as_option(&group, &r.head.gf_group);
    socklen_t length = GROUP_FILTER_SIZE(room);
    if (getsockopt(fd, level, MCAST_MSFILTER, &r, &length)) {
        say("read filter", -1);
        return;
    }
    printf("read filter: mode %u, sources %u, length %u\n", r.head.gf_fmode, r.head.gf_numsrc, length);
}

/* What is asked about groups, without a stream. */
static void errors(int fd) {
    for (unsigned s = 0; s < 2; s++) {
        shape *call = shapes[s].call;
        printf("- %s\n", shapes[s].name);
        struct sockaddr_storage other = neighbour(&source, 1);
        TRY("leave before", call(fd, LEAVE, &group, NULL, 0));
        TRY("drop before", call(fd, DROP, &group, &source, 0));
        TRY("block before", call(fd, BLOCK, &group, &source, 0));
        TRY("join", call(fd, JOIN, &group, NULL, 0));
        TRY("join twice", call(fd, JOIN, &group, NULL, 0));
        TRY("join by device", call(fd, LEAVE, &group, NULL, device));
        TRY("leave twice", call(fd, LEAVE, &group, NULL, 0));
        TRY("join by device", call(fd, JOIN, &group, NULL, device));
        TRY("twice by device", call(fd, JOIN, &group, NULL, device));
        TRY("leave anywhere", call(fd, LEAVE, &group, NULL, 0));
        TRY("add", call(fd, ADD, &group, &source, 0));
        TRY("add twice", call(fd, ADD, &group, &source, 0));
        TRY("add another", call(fd, ADD, &group, &other, 0));
        TRY("join where sources are", call(fd, JOIN, &group, NULL, 0));
        TRY("block where sources are", call(fd, BLOCK, &group, &other, 0));
        TRY("drop", call(fd, DROP, &group, &source, 0));
        TRY("drop twice", call(fd, DROP, &group, &source, 0));
        read_filter(fd, 4);
        TRY("drop the last", call(fd, DROP, &group, &other, 0));
        TRY("leave after", call(fd, LEAVE, &group, NULL, 0));
        TRY("add", call(fd, ADD, &group, &source, 0));
        TRY("plain leave", call(fd, LEAVE, &group, NULL, 0));
        TRY("drop after", call(fd, DROP, &group, &source, 0));
        TRY("join", call(fd, JOIN, &group, NULL, 0));
        TRY("block", call(fd, BLOCK, &group, &other, 0));
        TRY("block twice", call(fd, BLOCK, &group, &other, 0));
        TRY("unblock another", call(fd, UNBLOCK, &group, &source, 0));
        read_filter(fd, 4);
        read_filter(fd, 0);
        TRY("unblock", call(fd, UNBLOCK, &group, &other, 0));
        TRY("filter out", filter(fd, MCAST_EXCLUDE, 3));
        read_filter(fd, 2);
        TRY("filter in", filter(fd, MCAST_INCLUDE, 2));
        read_filter(fd, 4);
        TRY("filter strangely", filter(fd, 7, 2));
        TRY("filter too many", filter(fd, MCAST_INCLUDE, 70));
        if (level == IPPROTO_IP) {
            TRY("old filter", old_filter(fd, MCAST_INCLUDE, 3));
            TRY("old filter too many", old_filter(fd, MCAST_INCLUDE, 11));
            read_filter(fd, 4);
        }
        TRY("filter nobody in", filter(fd, MCAST_INCLUDE, 0));
        TRY("filter after", filter(fd, MCAST_EXCLUDE, 1));
        read_filter(fd, 4);
        int most = level == IPPROTO_IP ? 20 : 10;
        for (int n = 0; n < most; n++) {
            other = neighbour(&group, n);
            errno = 0;
            if (call(fd, JOIN, &other, NULL, 0))
                say("one of many", -1);
        }
        other = neighbour(&group, 20);
        if (level == IPPROTO_IP)
            TRY("one too many", call(fd, JOIN, &other, NULL, 0));
        for (int n = 0; n < most; n++) {
            other = neighbour(&group, n);
            if (call(fd, LEAVE, &other, NULL, 0))
                say("one of many leaves", -1);
        }
        most = level == IPPROTO_IP ? 10 : 20;
        for (int n = 0; n < most; n++) {
            other = neighbour(&source, n);
            if (call(fd, ADD, &group, &other, 0))
                say("one of many sources", -1);
        }
        other = neighbour(&source, 20);
        if (level == IPPROTO_IP)
            TRY("a source too many", call(fd, ADD, &group, &other, 0));
        TRY("leave all", call(fd, LEAVE, &group, NULL, 0));
    }
    unsigned char bytes[8] = {224};
    TRY("too short", setsockopt(fd, level, level == IPPROTO_IP ? IP_ADD_MEMBERSHIP : IPV6_JOIN_GROUP, bytes, 7));
    TRY("no group", plain(fd, JOIN, &source, NULL, 0));
    TRY("generic, too short", setsockopt(fd, level, MCAST_JOIN_GROUP, bytes, 8));
}

static void options(void) {
    for (int to_group = 0; to_group < 2; to_group++)
        for (int shares = 0; shares < 2; shares++) {
            printf("-- %s, %s\n", to_group ? "bound to the group" : "bound to any",
                   shares ? "shared" : "alone");
            int fd = bound(to_group, shares);
            errors(fd);
            name_of(fd);
            TRY("close", close(fd));
        }
}

static void late(void) {
    int fd = make_socket();
    errors(fd);
    for (unsigned s = 0; s < 2; s++)
        for (int to_group = 0; to_group < 2; to_group++) {
            fd = make_socket();
            share(fd, 1, 0);
            TRY("join, unbound", shapes[s].call(fd, JOIN, &group, NULL, 0));
            name_of(fd);
            TRY("bind", bind(fd, (struct sockaddr *)(to_group ? &group : &any), name_length));
            name_of(fd);
            await(fd);
            hears("joined before bound", fd);
            TRY("join twice", shapes[s].call(fd, JOIN, &group, NULL, 0));
            TRY("leave", shapes[s].call(fd, LEAVE, &group, NULL, 0));
            hears("left", fd);
            close(fd);
        }
}

static void shape_by_shape(void) {
    for (unsigned s = 0; s < 2; s++)
        for (int to_group = 0; to_group < 2; to_group++)
            for (int shares = 0; shares < 2; shares++)
                for (int by_device = 0; by_device < 2; by_device++)
                    for (int adds = 0; adds < 2; adds++) {
                        if (adds && by_device && !s)
                            continue; /* named by its address: see sources */
                        printf("-- %s%s%s%s%s\n", shapes[s].name, to_group ? ", to the group" : "",
                               shares ? ", shared" : "", by_device ? ", by device" : "",
                               adds ? ", one source" : "");
                        int fd = bound(to_group, shares);
                        TRY("join", shapes[s].call(fd, adds ? ADD : JOIN, &group, &source,
                                                  by_device ? device : 0));
                        await(fd);
                        hears("joined", fd);
                        name_of(fd);
                        TRY("leave", shapes[s].call(fd, adds ? DROP : LEAVE, &group, &source,
                                                   by_device ? device : 0));
                        hears("left", fd);
                        TRY("again", shapes[s].call(fd, adds ? ADD : JOIN, &group, &source,
                                                   by_device ? device : 0));
                        await(fd);
                        hears("joined again", fd);
                        close(fd);
                    }
}

static void sources(void) {
    for (unsigned s = 0; s < 2; s++) {
        shape *call = shapes[s].call;
        struct sockaddr_storage other = neighbour(&source, 1);
        int fd = bound(1, 1);
        TRY("add another", call(fd, ADD, &group, &other, 0));
        hears("another", fd);
        TRY("add", call(fd, ADD, &group, &source, 0));
        await(fd);
        hears("both", fd);
        TRY("drop", call(fd, DROP, &group, &source, 0));
        hears("another", fd);
        TRY("leave", call(fd, LEAVE, &group, NULL, 0));
        TRY("join", call(fd, JOIN, &group, NULL, 0));
        await(fd);
        TRY("block", call(fd, BLOCK, &group, &source, 0));
        hears("blocked", fd);
        TRY("unblock", call(fd, UNBLOCK, &group, &source, 0));
        await(fd);
        hears("unblocked", fd);
        TRY("filter out", filter(fd, MCAST_EXCLUDE, 2));
        hears("filtered out", fd);
        TRY("filter in", filter(fd, MCAST_INCLUDE, 2));
        await(fd);
        hears("filtered in", fd);
        TRY("filter nobody in", filter(fd, MCAST_INCLUDE, 0));
        hears("nobody in", fd);
        close(fd);
    }
}

static void read_option(int fd, const char *what, int at, int name) {
    unsigned char value[32] = {0};
    socklen_t length = sizeof value;
    if (getsockopt(fd, at, name, value, &length)) {
        say(what, -1);
        return;
    }
    printf("%s:", what);
    for (socklen_t n = 0; n < length; n++)
        printf(" %d", value[n]);
    printf("\n");
}

#define READ(fd, at, name) read_option(fd, #name, at, name)

static void names(void) {
    for (int to_group = 0; to_group < 2; to_group++)
        for (int shares = 0; shares < 4; shares++) {
            printf("-- %d %d\n", to_group, shares);
            int fd = make_socket();
            share(fd, shares & 1, shares & 2);
            name_of(fd);
            TRY("bind", bind(fd, (struct sockaddr *)(to_group ? &group : &any), name_length));
            name_of(fd);
            TRY("bind twice", bind(fd, (struct sockaddr *)(to_group ? &group : &any), name_length));
            TRY("join", plain(fd, JOIN, &group, NULL, 0));
            name_of(fd);
            READ(fd, SOL_SOCKET, SO_REUSEADDR);
            READ(fd, SOL_SOCKET, SO_REUSEPORT);
            READ(fd, SOL_UDP, UDP_GRO);
            READ(fd, SOL_SOCKET, SO_ATTACH_FILTER);
            int on = 1, off = 0;
            TRY("set SO_REUSEADDR", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
            READ(fd, SOL_SOCKET, SO_REUSEADDR);
            TRY("clear SO_REUSEADDR", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &off, sizeof off));
            READ(fd, SOL_SOCKET, SO_REUSEADDR);
            TRY("short SO_REUSEADDR", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, 2));
            TRY("set UDP_GRO", setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on));
            READ(fd, SOL_UDP, UDP_GRO);
            TRY("set IP_RECVERR", setsockopt(fd, SOL_IP, IP_RECVERR, &on, 1));
            READ(fd, SOL_IP, IP_RECVERR);
            char byte = 9;
            socklen_t one = 1;
            TRY("a byte of it", getsockopt(fd, SOL_IP, IP_RECVERR, &byte, &one));
            printf("%d %u\n", byte, one);
            TRY("shutdown", shutdown(fd, SHUT_WR));
            close(fd);
        }
}

static void connects(void) {
    struct sockaddr_storage other = neighbour(&source, 1);
    struct sockaddr_storage unspecified = {0};
    for (int to_group = 0; to_group < 2; to_group++) {
        int fd = bound(to_group, 1);
        TRY("join", plain(fd, JOIN, &group, NULL, 0));
        await(fd);
        TRY("connect to the sender", connect(fd, (struct sockaddr *)&sender_name, name_length));
        name_of(fd);
        /* Bound to any address, the kernel's socket now has one, and hears no group. */
        if (to_group)
            hears("connected", fd);
        TRY("connect elsewhere", connect(fd, (struct sockaddr *)&other, name_length));
        name_of(fd);
        hears("elsewhere", fd);
        struct sockaddr_storage no_port = sender_name;
        set_port(&no_port, 0);
        TRY("connect to no port", connect(fd, (struct sockaddr *)&no_port, name_length));
        name_of(fd);
        TRY("disconnect", connect(fd, (struct sockaddr *)&unspecified, name_length));
        name_of(fd);
        hears("disconnected", fd);
        TRY("shutdown, not connected", shutdown(fd, SHUT_WR));
        TRY("connect again", connect(fd, (struct sockaddr *)&sender_name, name_length));
        TRY("shutdown", shutdown(fd, SHUT_RD));
        char byte;
        TRY("recv", recv(fd, &byte, 1, 0));
        close(fd);
    }
    /* Connected before it joins, and answering on a connected one. */
    int fd = bound(1, 1);
    TRY("connect first", connect(fd, (struct sockaddr *)&sender_name, name_length));
    TRY("join", plain(fd, JOIN, &group, NULL, 0));
    name_of(fd);
    await(fd);
    hears("connected first", fd);
    drain(sender);
    TRY("send back", send(fd, "back", 4, 0));
    char bytes[10] = {0};
    struct sockaddr_storage from = {0};
    socklen_t length = sizeof from;
    if (readable(sender, 1000))
        TRY("sender hears", recvfrom(sender, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length));
    printf("%s from %s\n", bytes, host_of(&from));
    close(fd);
}

/* One socket that joins the group and sends to it, as peers of many do. */
static void own(void) {
    int first = sender;
    for (int shares = 0; shares < 2; shares++)
        for (int late_join = 0; late_join < 2; late_join++) {
            int fd = bound(0, shares), on = 1, off = 0;
            int at = group.ss_family == AF_INET ? SOL_IP : SOL_IPV6;
            int loop = at == SOL_IP ? IP_MULTICAST_LOOP : IPV6_MULTICAST_LOOP;
            sender = fd;
            if (late_join)
                push("before it joins");
            TRY("join", plain(fd, JOIN, &group, NULL, 0));
            await(fd);
            hears("its own", fd);
            name_of(fd);
            TRY("loop off", setsockopt(fd, at, loop, &off, sizeof off));
            hears("not its own", fd);
            TRY("loop on", setsockopt(fd, at, loop, &on, sizeof on));
            hears("its own", fd);
            TRY("leave", plain(fd, LEAVE, &group, NULL, 0));
            hears("left", fd);
            close(fd);
        }
    sender = first;
}

static void wait_for(int epoll, const char *what, int ms) {
    struct epoll_event events[8];
    int count = epoll_wait(epoll, events, 8, ms);
    printf("%s: %d events", what, count);
    for (int n = 0; n < count; n++)
        printf(", %x data %llx", events[n].events, (unsigned long long)events[n].data.u64);
    printf("\n");
}

static void numbers(void) {
    int fd = bound(0, 1), other = dup(fd);
    int set_cloexec = fcntl(other, F_SETFD, FD_CLOEXEC);
    int third = fcntl(fd, F_DUPFD, 50);
    int epoll = epoll_create1(0), second = epoll_create1(0), twin = dup(epoll);
    struct epoll_event e = {EPOLLIN, {.u64 = 0x1122334455667788}};
    TRY("epoll", epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e));
    e.data.u64 = 2;
    TRY("epoll of the duplicate", epoll_ctl(epoll, EPOLL_CTL_ADD, other, &e));
    e = (struct epoll_event){EPOLLIN | EPOLLET, {.u64 = 3}};
    TRY("epoll, edges", epoll_ctl(second, EPOLL_CTL_ADD, fd, &e));
    e = (struct epoll_event){EPOLLIN, {.u64 = 4}};
    TRY("epoll of the third", epoll_ctl(second, EPOLL_CTL_ADD, third, &e));
    int flags = fcntl(fd, F_GETFL);
    TRY("non-blocking", fcntl(fd, F_SETFL, flags | O_NONBLOCK));
    close(third);
    TRY("join", plain(fd, JOIN, &group, NULL, 0));
    printf("flags kept: %d, %d %d %d\n", fcntl(other, F_GETFL) == (flags | O_NONBLOCK), set_cloexec,
           fcntl(fd, F_GETFD), fcntl(other, F_GETFD));
    await(fd);
    wait_for(epoll, "nothing there", 50);
    push("word");
    readable(fd, 1000);
    wait_for(epoll, "both numbers", 1000);
    wait_for(twin, "by the other epoll number", 1000);
    wait_for(second, "an edge, and the closed one", 1000);
    wait_for(second, "no edge", 50);
    drain(fd);
    e = (struct epoll_event){EPOLLIN | EPOLLONESHOT, {.u64 = 5}};
    TRY("modify", epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &e));
    TRY("delete", epoll_ctl(epoll, EPOLL_CTL_DEL, other, NULL));
    TRY("add again", epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e));
    hears("by the first", fd);
    hears("by the second", other);
    close(fd);
    hears("the first is closed", other);
    int late = dup(other);
    hears("by a late one", late);
    TRY("dup2", dup2(other, late + 5));
    hears("by dup2", late + 5);
    close(other);
    close(late);
    TRY("join twice", plain(late + 5, JOIN, &group, NULL, 0));
    TRY("leave", plain(late + 5, LEAVE, &group, NULL, 0));
    close(late + 5);
    /* Two on one port, each with its own stream. */
    int one = bound(1, 1), two = bound(1, 1);
    TRY("join", plain(one, JOIN, &group, NULL, 0));
    TRY("join", plain(two, JOIN, &group, NULL, 0));
    await(one);
    await(two);
    drain(one);
    push("word");
    printf("both: %d %d\n", readable(one, 1000), readable(two, 1000));
    drain(one);
    drain(two);
    close(one);
    hears("the other is closed", two);
    close(two);
    /* The number is used again. */
    int next = bound(0, 0);
    printf("same number: %d\n", next == one);
    hears("not joined", next);
    TRY("join", plain(next, JOIN, &group, NULL, 0));
    await(next);
    hears("joined", next);
    close(next);
}

static void copied(void) {
    static const struct {
        const char *name;
        int at, option, value;
    } list[] = {
        {"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, 100000},
        {"SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, 90000},
        {"SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, 2},
        {"SO_BROADCAST", SOL_SOCKET, SO_BROADCAST, 1},
        {"SO_PRIORITY", SOL_SOCKET, SO_PRIORITY, 3},
        {"SO_TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP, 1},
        {"SO_RXQ_OVFL", SOL_SOCKET, SO_RXQ_OVFL, 1},
        {"SO_DONTROUTE", SOL_SOCKET, SO_DONTROUTE, 1},
        {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1},
        {"SO_NO_CHECK", SOL_SOCKET, SO_NO_CHECK, 1},
        {"SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, 1},
        {"IP_TOS", SOL_IP, IP_TOS, 16},
        {"IP_TTL", SOL_IP, IP_TTL, 7},
        {"IP_MINTTL", SOL_IP, IP_MINTTL, 1},
        {"IP_MTU_DISCOVER", SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT},
        {"IP_MULTICAST_TTL", SOL_IP, IP_MULTICAST_TTL, 9},
        {"IP_MULTICAST_LOOP", SOL_IP, IP_MULTICAST_LOOP, 0},
        {"IP_MULTICAST_ALL", SOL_IP, IP_MULTICAST_ALL, 0},
        {"IP_PKTINFO", SOL_IP, IP_PKTINFO, 1},
        {"IP_RECVTTL", SOL_IP, IP_RECVTTL, 1},
        {"IP_RECVTOS", SOL_IP, IP_RECVTOS, 1},
        {"IP_RECVOPTS", SOL_IP, IP_RECVOPTS, 1},
        {"IP_RECVORIGDSTADDR", SOL_IP, IP_RECVORIGDSTADDR, 1},
        {"IP_FREEBIND", SOL_IP, IP_FREEBIND, 1},
        {"IPV6_UNICAST_HOPS", SOL_IPV6, IPV6_UNICAST_HOPS, 8},
        {"IPV6_TCLASS", SOL_IPV6, IPV6_TCLASS, 16},
        {"IPV6_MULTICAST_HOPS", SOL_IPV6, IPV6_MULTICAST_HOPS, 5},
        {"IPV6_MULTICAST_LOOP", SOL_IPV6, IPV6_MULTICAST_LOOP, 0},
        {"IPV6_RECVPKTINFO", SOL_IPV6, IPV6_RECVPKTINFO, 1},
        {"IPV6_RECVHOPLIMIT", SOL_IPV6, IPV6_RECVHOPLIMIT, 1},
        {"IPV6_RECVTCLASS", SOL_IPV6, IPV6_RECVTCLASS, 1},
        {"IPV6_MTU_DISCOVER", SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT},
        {"UDP_SEGMENT", SOL_UDP, UDP_SEGMENT, 600},
        {"UDP_GRO", SOL_UDP, UDP_GRO, 1},
        {"SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR, 1},
        {"SO_REUSEPORT", SOL_SOCKET, SO_REUSEPORT, 1},
    };
    int count = sizeof list / sizeof *list;
    for (int to_group = 0; to_group < 2; to_group++)
        for (int set = 0; set < 3; set++) { /* none, before, after */
            printf("-- %d %d\n", to_group, set);
            int fd = make_socket();
            share(fd, 1, 0);
            struct timeval wait = {1, 500000};
            for (int n = 0; set == 1 && n < count; n++)
                setsockopt(fd, list[n].at, list[n].option, &list[n].value, sizeof(int));
            if (set == 1) {
                setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
                setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "v0", 3);
                fcntl(fd, F_SETFL, O_NONBLOCK | fcntl(fd, F_GETFL));
            }
            TRY("bind", bind(fd, (struct sockaddr *)(to_group ? &group : &any), name_length));
            TRY("join", plain(fd, JOIN, &group, NULL, 0));
            for (int n = 0; set == 2 && n < count; n++)
                TRY(list[n].name, setsockopt(fd, list[n].at, list[n].option, &list[n].value, sizeof(int)));
            for (int n = 0; n < count; n++)
                read_option(fd, list[n].name, list[n].at, list[n].option);
            READ(fd, SOL_SOCKET, SO_RCVTIMEO);
            READ(fd, SOL_SOCKET, SO_BINDTODEVICE);
            printf("flags: %x %x\n", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
            close(fd);
        }
}

/* What ancillary data says about where it was sent. */
static void ancillary(struct msghdr *m) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        struct sockaddr_storage name = {.ss_family = group.ss_family};
        if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo *p = (struct in_pktinfo *)CMSG_DATA(c);
            printf("IP_PKTINFO: %s\n", inet_ntoa(p->ipi_addr));
        } else if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo *p = (struct in6_pktinfo *)CMSG_DATA(c);
            ((struct sockaddr_in6 *)&name)->sin6_addr = p->ipi6_addr;
            printf("IPV6_PKTINFO: %s\n", host_of(&name));
        } else if (c->cmsg_type == IP_ORIGDSTADDR || c->cmsg_type == IPV6_ORIGDSTADDR) {
            memcpy(&name, CMSG_DATA(c), name_length);
            struct sockaddr_in *four = (struct sockaddr_in *)&name;
            printf("ORIGDSTADDR: %s port %d\n",
                   four->sin_family == AF_INET ? inet_ntoa(four->sin_addr) : host_of(&name),
                   ntohs(port_of(&name)) == ntohs(port_of(&group)));
        } else {
            printf("level %d type %d\n", c->cmsg_level, c->cmsg_type);
        }
    }
}

static void receive_calls(void) {
    for (int to_group = 0; to_group < 2; to_group++) {
        int fd = bound(to_group, 1), on = 1;
        setsockopt(fd, SOL_IP, IP_PKTINFO, &on, sizeof on);
        setsockopt(fd, SOL_IP, IP_RECVORIGDSTADDR, &on, sizeof on);
        setsockopt(fd, SOL_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
        setsockopt(fd, SOL_IPV6, IPV6_RECVORIGDSTADDR, &on, sizeof on);
        TRY("join", plain(fd, JOIN, &group, NULL, 0));
        await(fd);
        char bytes[64] = {0}, more[64] = {0};
        struct sockaddr_storage from = {0};
        socklen_t length = sizeof from;
        struct sockaddr *name = (struct sockaddr *)&from;
        push("one word");
        TRY("peek", recvfrom(fd, bytes, sizeof bytes, MSG_PEEK, name, &length));
        show("source", &from, length);
        length = 7;
        memset(&from, 0, sizeof from);
        TRY("short name", recvfrom(fd, bytes, sizeof bytes, MSG_PEEK, name, &length));
        printf("length %u, port %d\n", length, port_of(&from) != 0);
        TRY("truncated", recvfrom(fd, bytes, 3, MSG_PEEK | MSG_TRUNC, NULL, NULL));
        TRY("no length", recvfrom(fd, bytes, sizeof bytes, MSG_PEEK, name, NULL));
        length = sizeof from;
        TRY("recvfrom", recvfrom(fd, bytes, sizeof bytes, 0, name, &length));
        show("source", &from, length);
        printf("%s\n", bytes);
        TRY("empty", recvfrom(fd, bytes, sizeof bytes, MSG_DONTWAIT, name, &length));
        char control[512];
        for (int named = 0; named < 2; named++) {
            push("two words");
            memset(&from, 0, sizeof from);
            struct iovec parts[2] = {{bytes, 4}, {more, 3}};
            struct msghdr m = {.msg_name = named ? &from : NULL,
                               .msg_namelen = named ? sizeof from : 77,
                               .msg_iov = parts,
                               .msg_iovlen = 2,
                               .msg_control = control,
                               .msg_controllen = sizeof control};
            TRY("recvmsg", recvmsg(fd, &m, 0));
            printf("%.4s %.3s flags %x namelen %u named %d\n", bytes, more, m.msg_flags, m.msg_namelen,
                   m.msg_name != NULL);
            if (named)
                show("source", &from, m.msg_namelen);
            ancillary(&m);
        }
        push("three");
        push("and four");
        struct sockaddr_storage froms[3] = {0};
        struct mmsghdr many[3] = {0};
        struct iovec parts[3];
        char texts[3][32] = {0};
        for (int n = 0; n < 3; n++) {
            parts[n] = (struct iovec){texts[n], 32};
            many[n].msg_hdr = (struct msghdr){.msg_name = &froms[n], .msg_namelen = sizeof from,
                                              .msg_iov = &parts[n], .msg_iovlen = 1};
        }
        readable(fd, 1000);
        nap(50);
        TRY("recvmmsg", recvmmsg(fd, many, 3, MSG_DONTWAIT, NULL));
        for (int n = 0; n < 2; n++) {
            printf("%s %u\n", texts[n], many[n].msg_len);
            show("source", &froms[n], many[n].msg_hdr.msg_namelen);
        }
        TRY("error queue", recvfrom(fd, bytes, sizeof bytes, MSG_ERRQUEUE, name, &length));
        struct timeval wait = {0, 50000};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        TRY("in vain", recvfrom(fd, bytes, sizeof bytes, 0, name, &length));
        push("");
        TRY("nothing, sent", recvfrom(fd, bytes, sizeof bytes, 0, name, &length));
        /* What is sent to the socket's own port, where it has that alone. */
        close(fd);
        fd = bound(0, 0);
        TRY("join", plain(fd, JOIN, &group, NULL, 0));
        await(fd);
        struct sockaddr_storage own = source;
        set_port(&own, port_of(&group));
        int plain_sender = make_socket();
        TRY("unicast", sendto(plain_sender, "plain", 5, 0, (struct sockaddr *)&own, name_length));
        length = sizeof from;
        readable(fd, 1000);
        TRY("unicast arrives", recvfrom(fd, bytes, sizeof bytes, MSG_DONTWAIT, name, &length));
        show("source", &from, length);
        close(plain_sender);
        close(fd);
    }
}

int main(int argc, char **argv) {
    if (argc != 5)
        return 2;
    make(argv[4], "0", &source);
    make(argv[2], argv[3], &group);
    const struct in6_addr *six = &((struct sockaddr_in6 *)&group)->sin6_addr;
    mapped = group.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(six);
    level = group.ss_family == AF_INET || mapped ? IPPROTO_IP : IPPROTO_IPV6;
    device = if_nametoindex("v0");
    any.ss_family = group.ss_family;
    set_port(&any, port_of(&group));
    sender = make_socket();
    socklen_t length = sizeof sender_name;
    if (bind(sender, (struct sockaddr *)&source, name_length) ||
        getsockname(sender, (struct sockaddr *)&sender_name, &length))
        return 3;
    const struct {
        const char *name;
        void (*run)(void);
    } topics[] = {{"options", options}, {"late", late},         {"shapes", shape_by_shape},
                  {"names", names},     {"sources", sources},   {"connect", connects},
                  {"numbers", numbers}, {"own", own}, {"copied", copied},     {"calls", receive_calls}};
    for (unsigned n = 0; n < sizeof topics / sizeof *topics; n++)
        if (!strcmp(argv[1], topics[n].name)) {
            topics[n].run();
            return 0;
        }
    return 2;
}
