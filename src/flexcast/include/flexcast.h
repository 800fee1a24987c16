/*
 * flexcast.h: sockets whose address is a channel, (sender, id).
 *
 *   receiver   flexcast_socket, flexcast_connect, flexcast_recv ... 0 at the end
 *   sender     flexcast_socket, flexcast_bind, flexcast_listen, flexcast_accept,
 *              flexcast_send ... EPIPE, flexcast_accept
 *
 * The calls are those of BSD sockets with a prefix, and return what those return: -1
 * with errno set where they fail. Descriptors are UDP sockets of the kernel: poll,
 * select, epoll, fcntl, dup and SO_RCVTIMEO mean what they mean there; they are to be
 * read, written and closed by the calls below. All calls may be made by any thread at
 * any time; none raises a signal; none is a cancellation point.
 *
 * After fork, parent and child hold a socket together. One that receives: each of them
 * gets what it takes and counts for itself (what the other took counts as lost); both
 * are told the end; where one closes it or ends, the other goes on; the last one's
 * close leaves. An accepted one: each may send, through the process that accepted it, and
 * the last one's close ends the stream; it ends with that process, too. By one that
 * listens the child can do no more than close it. A child of vfork can only close.
 *
 * Is C99 and C++; needs nothing but the C library.
 */
#ifndef FLEXCAST_H
#define FLEXCAST_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mmsghdr;

/* A channel of an IPv4 sender: its address (network byte order) and a number within it
   (host byte order). To bind: INADDR_ANY is any address of this host, id 0 any id. */
struct flexcast_channel {
	in_addr_t ip;
	uint64_t id;
};

/* The same for AF_INET6; an IPv4 sender is ::ffff:a.b.c.d. */
struct flexcast_channel6 {
	struct in6_addr ip;
	uint64_t id;
};

/* One of those who get an accepted channel's stream. Times are in milliseconds. */
struct flexcast_requester {
	struct sockaddr_storage address;
	uint64_t since;     /* how long it has been in */
	uint64_t idle;      /* how long ago it last asked */
	uint64_t datagrams; /* sent to it */
	uint64_t bytes;     /* sent to it, 16 a datagram more than the program gave */
	uint64_t lost;      /* what it says it has lost; UINT64_MAX: it cannot know */
	uint64_t receivers; /* at and below it */
};

/* What a receiver has counted. */
struct flexcast_stats {
	uint64_t received;   /* datagrams delivered */
	uint64_t bytes;      /* of these */
	uint64_t lost;       /* missing by sequence, `dropped` among them */
	uint64_t duplicates; /* came again, left out */
	uint64_t foreign;    /* not of the stream */
	uint64_t dropped;    /* the socket's queue had no room (SO_RCVBUF) */
	uint64_t nodes;      /* how many of `path` are there */
	uint64_t path[32];   /* the nodes from the sender down to the one that feeds us */
};

/* Somebody who asks to be let in; good while the callback runs. */
struct flexcast_request {
	struct flexcast_channel6 channel; /* an IPv4 sender is ::ffff:a.b.c.d */
	struct sockaddr_storage requester;
	const void *credential;
	size_t credential_length;
};

/* Decides: not 0 lets it in; 0 has its receive call fail with ECONNREFUSED. Runs in a
   thread of the library, one question at a time, with no lock held, and may make any
   call here. A relay asks for all behind it. */
struct flexcast_on_request {
	int (*callback)(const struct flexcast_request *request, void *argument);
	void *argument;
};

/* Options of level SOL_FLEXCAST. Times are unsigned int, in milliseconds; they are to be
   set before connect. */
#define SOL_FLEXCAST 0x1D1A
#define FLEXCAST_REFRESH 1    /* between refreshes, 1000 to 60000 */
#define FLEXCAST_HOLD 2       /* how long the stream goes on without one, same bounds */
#define FLEXCAST_HEARTBEAT 3  /* between statuses, 100 to 10000 */
#define FLEXCAST_STRICT 4     /* int: no data before the stream's token is known */
#define FLEXCAST_VIA 5        /* struct sockaddr_in or _in6: who is asked; port 0: as ever */
#define FLEXCAST_CREDENTIAL 6 /* up to 64 bytes, shown to be let in */
#define FLEXCAST_STATS 7      /* get: struct flexcast_stats */
#define FLEXCAST_REQUESTERS 8 /* get: struct flexcast_requester[]; the length becomes that
                                 of all of them, as many as fit are written */
#define FLEXCAST_ON_REQUEST 9 /* set, before listen: struct flexcast_on_request */
/* Limits, to be set before listen, unsigned int; who is in stays in. */
#define FLEXCAST_MOST_REQUESTERS 10 /* of each channel, 1 to 100000 */
#define FLEXCAST_MOST_PER_SOURCE 11 /* entries of an address in the process, 1 to 1000000 */
#define FLEXCAST_REFUSED 12 /* get: uint64_t, requests the process had no room for */
/* A relay by these calls: set TRANSPARENT, before bind, and the socket listens for
   channels of other hosts, and no others. Their requests reach the port of requests by a
   TPROXY rule of the administrator's; listen fails with EPERM without CAP_NET_ADMIN or
   CAP_NET_RAW, and with EADDRINUSE where another process has that port. For each accepted
   socket, set it as DOWNSTREAM of a fresh one and connect that to the accepted channel:
   it asks in the stead of the accepted one's audience, which is told what the node above
   says. It receives whole datagrams, each with the 16 bytes that follow it on the wire and
   the end of the stream among them, for the accepted one to send as they are; 0 when the
   audience is gone. Both are to be closed then. */
#define FLEXCAST_TRANSPARENT 13 /* int */
#define FLEXCAST_DOWNSTREAM 14  /* set, before connect: int, an accepted socket */

int flexcast_socket(int domain, int type, int protocol);
/* Makes the queue as long as the system allows, unless SO_RCVBUF was set before. */
int flexcast_connect(int fd, const void *channel, socklen_t length);
int flexcast_bind(int fd, const void *channel, socklen_t length);
int flexcast_listen(int fd, int backlog);
int flexcast_accept(int fd, void *channel, socklen_t *length);
/* Once to each of the audience. What is sent faster than datagrams can leave one by one, or
   while another thread sends, is copied and leaves soon after, in one batch with others and
   in order; close, shutdown, exit and fork let it leave first, _exit and exec do not. EPIPE
   where nobody is there, at the latest on the next send. */
ssize_t flexcast_send(int fd, const void *buffer, size_t length);
int flexcast_sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags);
ssize_t flexcast_recv(int fd, void *buffer, size_t length);
/* An entry whose msg_flags hold MSG_EOR is the end of the stream. */
int flexcast_recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags,
		      struct timespec *timeout);
int flexcast_getsockname(int fd, void *channel, socklen_t *length);
int flexcast_getpeername(int fd, void *channel, socklen_t *length);
int flexcast_setsockopt(int fd, int level, int name, const void *value, socklen_t length);
int flexcast_getsockopt(int fd, int level, int name, void *value, socklen_t *length);
int flexcast_shutdown(int fd, int how);
int flexcast_close(int fd);
/* What an error number of this thread's last failed call means; good until its next. */
const char *flexcast_strerror(int error);

#ifdef __cplusplus
}
#endif

#endif
