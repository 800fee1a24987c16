/* Sockets of test programs over loopback, and what is expected of a call. A receive call
   waits 5 s at most. Included once by a program, behind <flexcast.h> and _GNU_SOURCE. */
#include <errno.h>
#include <flexcast.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define CHECK(what)                                                             \
	do {                                                                    \
		if (!(what)) {                                                  \
			printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #what,       \
			       strerror(errno));                                \
			exit(1);                                                \
		}                                                               \
	} while (0)
#define FAILS(call, number)                                                     \
	do {                                                                    \
		errno = 0;                                                      \
		CHECK((call) == -1);                                            \
		CHECK(errno == (number));                                       \
	} while (0)

static inline struct flexcast_channel loopback(uint64_t id)
{
	struct flexcast_channel c = { htonl(INADDR_LOOPBACK), id };
	return c;
}

static inline void limit(int fd, int ms)
{
	struct timeval time = { ms / 1000, ms % 1000 * 1000 };
	CHECK(flexcast_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
}

static inline int receiver(uint64_t id)
{
	struct flexcast_channel c = loopback(id);
	int fd = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(fd >= 0);
	limit(fd, 5000);
	CHECK(flexcast_connect(fd, &c, sizeof c) == 0);
	return fd;
}

static inline int listener(uint64_t id, int flags)
{
	struct flexcast_channel c = { INADDR_ANY, id };
	int fd = flexcast_socket(AF_INET, SOCK_DGRAM | flags, 0);
	CHECK(fd >= 0);
	limit(fd, 5000);
	CHECK(flexcast_bind(fd, &c, sizeof c) == 0);
	CHECK(flexcast_listen(fd, 5) == 0);
	return fd;
}

static inline int is_readable(int fd, int ms)
{
	struct pollfd p = { fd, POLLIN, 0 };
	return poll(&p, 1, ms) == 1 && (p.revents & POLLIN);
}
