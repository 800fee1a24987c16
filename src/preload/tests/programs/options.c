/* options: all that can be asked of a socket that has joined a group.
 *
 *   options GROUP [reuse] [at-group]
 *
 * Joins GROUP at port 5000 (SO_REUSEADDR set before; bound to the group itself), then
 * prints what every option of every level reads, the descriptor's flags, its readiness
 * and the number that the next file gets. Is not aware of any library.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void print_option(int fd, int level, int name) {
    unsigned char value[64] = {0};
    socklen_t length = sizeof value;
    if (getsockopt(fd, level, name, value, &length)) {
        printf("option %d/%d: %s\n", level, name, strerrorname_np(errno));
        return;
    }
    printf("option %d/%d: ", level, name);
    for (socklen_t at = 0; at < length; at++)
        printf("%02x", value[at]);
    printf("\n");
}

/* Not alike for two sockets: memory (its counters), cookie, napi id; IP_PROTOCOL reads
 * the port that the kernel has bound (do_ip_getsockopt, inet_num). */
static int differs(int level, int name) {
    return level == SOL_SOCKET ? name >= 55 && name <= 57 : level == IPPROTO_IP && name == 52;
}

int main(int count, char **words) {
    const int levels[] = {SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP};
    int six = strchr(words[1], ':') != NULL, one = 1, size = 100000, queued = -1;
    int fd = socket(six ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (count > 2)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (six) {
        struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_port = htons(5000)};
        struct ipv6_mreq request = {.ipv6mr_interface = 0};
        inet_pton(AF_INET6, words[1], &request.ipv6mr_multiaddr);
        if (count > 3)
            at.sin6_addr = request.ipv6mr_multiaddr;
        printf("bind: %d\n", bind(fd, (struct sockaddr *)&at, sizeof at));
        printf("join: %d\n", setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &request, sizeof request));
    } else {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(5000)};
        struct ip_mreqn request = {.imr_ifindex = 0};
        inet_pton(AF_INET, words[1], &request.imr_multiaddr);
        if (count > 3)
            at.sin_addr = request.imr_multiaddr;
        printf("bind: %d\n", bind(fd, (struct sockaddr *)&at, sizeof at));
        printf("join: %d\n", setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request));
    }
    for (int level = 0; level < 4; level++)
        for (int name = 0; name < 128; name++)
            if (!differs(levels[level], name))
                print_option(fd, levels[level], name);
    struct pollfd ready = {fd, POLLIN | POLLOUT, 0};
    poll(&ready, 1, 0);
    ioctl(fd, FIONREAD, &queued);
    printf("flags %x %x owner %d ready %x queued %d\n", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD),
           fcntl(fd, F_GETOWN), ready.revents, queued);
    printf("next number %d\n", dup(0) - fd);
    return 0;
}
