/* The sockets of a storm (storm.c): how they are made, under which numbers they are shared,
   and what is known of each. Is not what is sent through them (storm-traffic.h). C11. */
#ifndef STORM_SOCKETS_H
#define STORM_SOCKETS_H

#include "storm.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <flexcast.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>

#define CHANNELS 32 /* 1..16 have listeners of their own, whoever comes first the others */
#define GUARDED(id) ((id) % 4 == 0)
#define RECEIVERS 48
#define LISTENERS 18 /* one an id up to 16, and two that want the wildcard */
#define ANY 12 /* sockets that everything is tried on */
#define PAUSE 16000 /* microseconds at most between two calls of a thread */

/* Sockets that all threads share, by number; -1: none. Numbers are not used twice, so that
   whoever comes late gets EBADF, and no stranger's socket. */
static atomic_int receivers[RECEIVERS], listeners[LISTENERS], deliveries[CHANNELS + 1],
	any[ANY];
static struct facts {
	uint64_t id;
	uint32_t stream;
	int strict, refusable;
} facts[65536];
static int lowest_number = 200, highest_number;
static atomic_int next_number;
static atomic_uint next_stream;
static atomic_int over, asking;
static atomic_ullong heard, refused, strays;
static uint64_t process;

/* What a thread last got at a receiver, of each worker of the stream's process. */
static struct view {
	int fd;
	uint64_t process;
	uint32_t stream;
	uint32_t last[MOST_WORKERS];
} views[MOST_WORKERS][RECEIVERS];
/* What a worker last sent of the stream at a delivery. */
static struct sent {
	uint32_t stream, sequence;
} sent[MOST_WORKERS][CHANNELS + 1];

static unsigned below(struct worker *w, unsigned end)
{
	w->random = w->random * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)((w->random >> 33) % end);
}

/* A further number of a socket's, which nothing had for long; -1: it is gone. */
static int number(struct worker *w, int fd)
{
	for (;;) {
		int from = atomic_fetch_add(&next_number, 1) - lowest_number;
		from = lowest_number + from % (highest_number - lowest_number);
		begin(w, DUP, fd);
		int own = fcntl(fd, F_DUPFD_CLOEXEC, from);
		if (!end(w, own) || own == from)
			return own;
		syscall(SYS_close, own);
	}
}

/* Moves a socket that nobody knows yet to a number of its own. */
static int settle(struct worker *w, int fd)
{
	int own = number(w, fd);
	struct flexcast_channel6 c;
	socklen_t length = sizeof c;
	begin(w, GETSOCKNAME, own);
	end(w, flexcast_getsockname(own, &c, &length));
	begin(w, CLOSE, fd);
	end(w, flexcast_close(fd));
	return own;
}

/* Now and then by the kernel's own call, which the library finds out about. */
static void shut(struct worker *w, int fd)
{
	if (fd < 0)
		return;
	begin(w, CLOSE, fd);
	end(w, below(w, 16) ? flexcast_close(fd) : syscall(SYS_close, fd));
}

/* To be called with facts[fd] written: whoever sees the number sees them. */
static void publish(struct worker *w, atomic_int *place, int fd)
{
	shut(w, atomic_exchange(place, fd));
}

static int make(struct worker *w, int family)
{
	begin(w, SOCKET, -1);
	int flags = below(w, 4) ? 0 : SOCK_NONBLOCK;
	int fd = flexcast_socket(family, SOCK_DGRAM | flags, 0);
	end(w, fd);
	struct timeval time = { 0, 1000 + (long)below(w, 60000) };
	begin(w, SETSOCKOPT, fd);
	end(w, flexcast_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
	return fd;
}

static int set(struct worker *w, int fd, int name, const void *value, socklen_t length)
{
	begin(w, SETSOCKOPT, fd);
	return end(w, flexcast_setsockopt(fd, SOL_FLEXCAST, name, value, length));
}

static int family_of(uint64_t id)
{
	return id % 2 ? AF_INET6 : AF_INET;
}

/* As its family writes it; of an IPv6 socket's, any or either loopback address. */
static int name(int connects, int fd, int family, uint64_t id, unsigned which)
{
	struct flexcast_channel c = { htonl(which ? INADDR_LOOPBACK + which - 1 : 0), id };
	struct flexcast_channel6 six = { IN6ADDR_ANY_INIT, id };
	if (which == 1)
		six.ip.s6_addr[15] = 1;
	else if (which > 1)
		inet_pton(AF_INET6, "::ffff:127.0.0.1", &six.ip);
	const void *channel = family == AF_INET ? (const void *)&c : &six;
	socklen_t length = family == AF_INET ? sizeof c : sizeof six;
	return connects ? flexcast_connect(fd, channel, length)
			: flexcast_bind(fd, channel, length);
}

static int connect_to(struct worker *w, int fd, int family, uint64_t id)
{
	unsigned which = 1 + below(w, 2);
	begin(w, CONNECT, fd);
	return end(w, name(1, fd, family, id, which));
}

static int bind_to(struct worker *w, int fd, int family, uint64_t id)
{
	begin(w, BIND, fd);
	return end(w, name(0, fd, family, id, 0));
}

static int listen_at(struct worker *w, int fd)
{
	int backlog = 1 + (int)below(w, 8);
	begin(w, LISTEN, fd);
	return end(w, flexcast_listen(fd, backlog));
}

static int decide(const struct flexcast_request *request, void *argument);
static const struct flexcast_on_request on_request = { decide, &asking };

/* Sets what a receiver may set, and notes it. Whom callbacks refuse is strict, as a third
   of the others: it takes nothing of what an earlier socket on its port may still get. */
static void set_options(struct worker *w, int fd, struct facts *facts)
{
	unsigned int ms = 100 + below(w, 900), on = 1;
	facts->refusable = below(w, 12) == 0;
	facts->strict = facts->refusable || below(w, 3) == 0;
	if (below(w, 2))
		set(w, fd, FLEXCAST_HEARTBEAT, &ms, sizeof ms);
	if (facts->strict)
		set(w, fd, FLEXCAST_STRICT, &on, sizeof on);
	if (facts->refusable)
		set(w, fd, FLEXCAST_CREDENTIAL, "no", 2);
}

static void open_receiver(struct worker *w, atomic_int *place)
{
	struct facts its = { 1 + below(w, CHANNELS), 0, 0, 0 };
	int family = below(w, 3) ? family_of(its.id) : AF_INET;
	int fd = make(w, family);
	set_options(w, fd, &its);
	connect_to(w, fd, family, its.id);
	fd = settle(w, fd);
	facts[fd] = its;
	publish(w, place, fd);
}

static void open_listener(struct worker *w, unsigned at)
{
	uint64_t id = at < 16 ? at + 1 : 0;
	int family = at < 16 ? family_of(id) : AF_INET6;
	int fd = make(w, family);
	bind_to(w, fd, family, id);
	if (GUARDED(id))
		set(w, fd, FLEXCAST_ON_REQUEST, &on_request, sizeof on_request);
	if (!listen_at(w, fd)) {
		shut(w, fd);
		return;
	}
	fd = settle(w, fd);
	facts[fd] = (struct facts){ id, 0, 0, 0 };
	publish(w, &listeners[at], fd);
}

static void take(struct worker *w, int listener)
{
	struct flexcast_channel6 c = { IN6ADDR_ANY_INIT, 0 };
	socklen_t length = sizeof c;
	uint64_t id;
	begin(w, ACCEPT, listener);
	int fd = flexcast_accept(listener, &c, &length);
	if (!end(w, fd))
		return;
	memcpy(&id, (char *)&c + length - sizeof id, sizeof id);
	uint64_t bound = facts[listener].id;
	if (id < 1 || id > CHANNELS || (bound != 0 && id != bound))
		wrong("%llu was accepted at %llu", (unsigned long long)id,
		      (unsigned long long)bound);
	struct timeval time = { 0, 1000 + (long)below(w, 60000) };
	begin(w, SETSOCKOPT, fd);
	end(w, flexcast_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
	fd = settle(w, fd);
	facts[fd] = (struct facts){ id, atomic_fetch_add(&next_stream, 1), 0, 0 };
	publish(w, &deliveries[id], fd);
}

#endif
