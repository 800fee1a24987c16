/*
 * flexcast_compat.h: a source written for TCP (or for UDP sockets that listen) takes its
 * streams by Flexcast, by compiling it again:
 *
 *   cc -include flexcast_compat.h server.c $(pkg-config --cflags --libs flexcast)
 *   FLEXCAST_MAP='10.0.0.0/24:5000=10.0.0.5' ./server        (the same on every host)
 *
 * What the source calls connect, listen, accept, send, recv, read, write, close ... goes
 * through the rules of FLEXCAST_MAP (flexcast(7)); FLEXCAST_CONFIG, FLEXCAST_SELF and the
 * other variables mean what they mean to the preload library, but FLEXCAST_LOG: nothing is
 * logged. Of a rule's options #ID, role, strict and the first node of via count. An address that no rule
 * takes, and every descriptor that is no socket, is the system's, exactly as without this
 * header. Rules that cannot be read are said once on standard error, and nothing is
 * mapped then.
 *
 *   server  bind, listen at an address that the rules say this host serves: it listens for
 *           a channel. accept gives one socket for the channel's whole audience, when its
 *           first receiver comes; later ones join it in silence. What is sent reaches them
 *           all, once each, from where the stream is when they come. EPIPE (never a
 *           signal) when nobody is left: close, and accept the next audience.
 *   client  connect to such an address, on this host or another: it asks for the channel
 *           and returns at once, also where no server is there yet: recv waits for one.
 *           recv gives the stream, 0 at its end. ECONNREFUSED: refused for good.
 *           ECONNRESET: the server was started anew.
 *
 * SOCK_STREAM is a stream of bytes: a short recv leaves the rest for the next one, and
 * poll, select and epoll say that it is there. A send of more than 1316 bytes is cut into
 * datagrams of 1316. It is no more reliable than datagrams are: what is lost on the way,
 * or finds the receiver's queue full, is missing; FLEXCAST_STATS (SOL_FLEXCAST, of
 * flexcast.h) counts it. Records sent by one call of at most 1316 bytes are missing as a
 * whole or not at all. Nobody slows down for a slow reader. SOCK_DGRAM is a datagram for a
 * datagram, and may listen.
 *
 * What needs a way back to the server is refused (flexcast_compat(3) has all errors):
 *   send of a client                                   EOPNOTSUPP
 *   recv of a server that would wait                   EOPNOTSUPP (non-blocking: EAGAIN);
 *                                                      0 when the audience is gone
 *   MSG_OOB, MSG_ERRQUEUE                              EOPNOTSUPP
 *   connect to an address that has several senders     EOPNOTSUPP
 *   listen where another process does for the channel  EADDRINUSE
 *   accept of a forked child                           EOPNOTSUPP
 * A forked child receives and sends on, as flexcast.h says: a server with a process for
 * each client is one with a single client.
 *
 * The descriptor keeps its number, O_NONBLOCK, close-on-exec and its time limits when it
 * becomes Flexcast's, in connect or listen; duplicates made and epoll registrations
 * entered before that stay with the system's socket. Options of TCP are taken and read
 * back, and have no effect; getsockname of a client that was not bound shows no address of
 * the host, as that of a UDP socket. What bypasses these names bypasses Flexcast: stdio (fdopen),
 * sendfile, splice, sendmmsg, io_uring, calls through function pointers.
 *
 * The names are macros, so include it after the headers of C++'s standard library; where a
 * member has such a name (file.close()), define FLEXCAST_COMPAT_NO_MACROS and call
 * flexcast_or_close and its like by name. C99 and C++; included first, it asks for the
 * system's own functions (_GNU_SOURCE).
 */
#ifndef FLEXCAST_COMPAT_H
#define FLEXCAST_COMPAT_H

#if !defined _FEATURES_H && !defined _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the calls below return for a socket, or an address, that is the system's: then
   nothing was done. */
#define FLEXCAST_COMPAT_PLAIN (-2)

int flexcast_compat_connect(int fd, const void *name, socklen_t length);
int flexcast_compat_listen(int fd, int backlog);
int flexcast_compat_accept4(int fd, void *name, socklen_t *length, int flags);
ssize_t flexcast_compat_send(int fd, const struct iovec *parts, size_t count, int flags);
ssize_t flexcast_compat_recv(int fd, const struct iovec *parts, size_t count, int flags);
int flexcast_compat_getsockname(int fd, void *name, socklen_t *length);
int flexcast_compat_getpeername(int fd, void *name, socklen_t *length);
int flexcast_compat_setsockopt(int fd, int level, int name, const void *value, socklen_t length);
int flexcast_compat_getsockopt(int fd, int level, int name, void *value, socklen_t *length);
int flexcast_compat_shutdown(int fd, int how);
int flexcast_compat_close(int fd);

/* The calls of the source: Flexcast's where it takes them, else the system's, made from
   here, so that they stay what they are (cancellation points among them). */

static inline int flexcast_or_connect(int fd, const void *name, socklen_t length)
{
	int done = flexcast_compat_connect(fd, name, length);
	return done != FLEXCAST_COMPAT_PLAIN ? done
					     : connect(fd, (const struct sockaddr *)name, length);
}

static inline int flexcast_or_listen(int fd, int backlog)
{
	int done = flexcast_compat_listen(fd, backlog);
	return done != FLEXCAST_COMPAT_PLAIN ? done : listen(fd, backlog);
}

static inline int flexcast_or_accept(int fd, void *name, socklen_t *length)
{
	int done = flexcast_compat_accept4(fd, name, length, 0);
	return done != FLEXCAST_COMPAT_PLAIN ? done : accept(fd, (struct sockaddr *)name, length);
}

#ifdef _GNU_SOURCE
static inline int flexcast_or_accept4(int fd, void *name, socklen_t *length, int flags)
{
	int done = flexcast_compat_accept4(fd, name, length, flags);
	return done != FLEXCAST_COMPAT_PLAIN
		       ? done
		       : accept4(fd, (struct sockaddr *)name, length, flags);
}
#endif

static inline struct iovec flexcast_or_part(const void *bytes, size_t length)
{
	struct iovec part;
	/* Not by a cast: it would take the const away. */
	memcpy(&part.iov_base, &bytes, sizeof bytes);
	part.iov_len = length;
	return part;
}

static inline ssize_t flexcast_or_send(int fd, const void *bytes, size_t length, int flags)
{
	struct iovec part = flexcast_or_part(bytes, length);
	ssize_t done = flexcast_compat_send(fd, &part, 1, flags);
	return done != FLEXCAST_COMPAT_PLAIN ? done : send(fd, bytes, length, flags);
}

static inline ssize_t flexcast_or_sendto(int fd, const void *bytes, size_t length, int flags,
					 const void *name, socklen_t name_length)
{
	struct iovec part = flexcast_or_part(bytes, length);
	ssize_t done = flexcast_compat_send(fd, &part, 1, flags);
	return done != FLEXCAST_COMPAT_PLAIN
		       ? done
		       : sendto(fd, bytes, length, flags, (const struct sockaddr *)name, name_length);
}

static inline ssize_t flexcast_or_sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t done = flexcast_compat_send(fd, message->msg_iov, (size_t)message->msg_iovlen, flags);
	return done != FLEXCAST_COMPAT_PLAIN ? done : sendmsg(fd, message, flags);
}

static inline ssize_t flexcast_or_write(int fd, const void *bytes, size_t length)
{
	struct iovec part = flexcast_or_part(bytes, length);
	ssize_t done = flexcast_compat_send(fd, &part, 1, 0);
	return done != FLEXCAST_COMPAT_PLAIN ? done : write(fd, bytes, length);
}

static inline ssize_t flexcast_or_writev(int fd, const struct iovec *parts, int count)
{
	ssize_t done = flexcast_compat_send(fd, parts, (size_t)count, 0);
	return done != FLEXCAST_COMPAT_PLAIN ? done : writev(fd, parts, count);
}

static inline ssize_t flexcast_or_recv(int fd, void *bytes, size_t length, int flags)
{
	struct iovec part = flexcast_or_part(bytes, length);
	ssize_t done = flexcast_compat_recv(fd, &part, 1, flags);
	return done != FLEXCAST_COMPAT_PLAIN ? done : recv(fd, bytes, length, flags);
}

static inline ssize_t flexcast_or_recvfrom(int fd, void *bytes, size_t length, int flags,
					   void *name, socklen_t *name_length)
{
	struct iovec part = flexcast_or_part(bytes, length);
	ssize_t done = flexcast_compat_recv(fd, &part, 1, flags);
	if (done == FLEXCAST_COMPAT_PLAIN)
		return recvfrom(fd, bytes, length, flags, (struct sockaddr *)name, name_length);
	if (done >= 0 && name != NULL && name_length != NULL)
		(void)flexcast_compat_getpeername(fd, name, name_length);
	return done;
}

static inline ssize_t flexcast_or_recvmsg(int fd, struct msghdr *message, int flags)
{
	ssize_t done = flexcast_compat_recv(fd, message->msg_iov, (size_t)message->msg_iovlen, flags);
	if (done == FLEXCAST_COMPAT_PLAIN)
		return recvmsg(fd, message, flags);
	if (done >= 0) {
		message->msg_namelen = 0;
		message->msg_controllen = 0;
		message->msg_flags = 0;
	}
	return done;
}

static inline ssize_t flexcast_or_read(int fd, void *bytes, size_t length)
{
	struct iovec part = flexcast_or_part(bytes, length);
	ssize_t done = flexcast_compat_recv(fd, &part, 1, 0);
	return done != FLEXCAST_COMPAT_PLAIN ? done : read(fd, bytes, length);
}

static inline ssize_t flexcast_or_readv(int fd, const struct iovec *parts, int count)
{
	ssize_t done = flexcast_compat_recv(fd, parts, (size_t)count, 0);
	return done != FLEXCAST_COMPAT_PLAIN ? done : readv(fd, parts, count);
}

static inline int flexcast_or_getsockname(int fd, void *name, socklen_t *length)
{
	int done = flexcast_compat_getsockname(fd, name, length);
	return done != FLEXCAST_COMPAT_PLAIN ? done
					     : getsockname(fd, (struct sockaddr *)name, length);
}

static inline int flexcast_or_getpeername(int fd, void *name, socklen_t *length)
{
	int done = flexcast_compat_getpeername(fd, name, length);
	return done != FLEXCAST_COMPAT_PLAIN ? done
					     : getpeername(fd, (struct sockaddr *)name, length);
}

static inline int flexcast_or_setsockopt(int fd, int level, int name, const void *value,
					 socklen_t length)
{
	int done = flexcast_compat_setsockopt(fd, level, name, value, length);
	return done != FLEXCAST_COMPAT_PLAIN ? done : setsockopt(fd, level, name, value, length);
}

static inline int flexcast_or_getsockopt(int fd, int level, int name, void *value,
					 socklen_t *length)
{
	int done = flexcast_compat_getsockopt(fd, level, name, value, length);
	return done != FLEXCAST_COMPAT_PLAIN ? done : getsockopt(fd, level, name, value, length);
}

static inline int flexcast_or_shutdown(int fd, int how)
{
	int done = flexcast_compat_shutdown(fd, how);
	return done != FLEXCAST_COMPAT_PLAIN ? done : shutdown(fd, how);
}

static inline int flexcast_or_close(int fd)
{
	int done = flexcast_compat_close(fd);
	return done != FLEXCAST_COMPAT_PLAIN ? done : close(fd);
}

#ifdef __cplusplus
}
#endif

#ifndef FLEXCAST_COMPAT_NO_MACROS
/* Any number of arguments: a compound literal among them has commas of its own. */
#define connect(...) flexcast_or_connect(__VA_ARGS__)
#define listen(...) flexcast_or_listen(__VA_ARGS__)
#define accept(...) flexcast_or_accept(__VA_ARGS__)
#ifdef _GNU_SOURCE
#define accept4(...) flexcast_or_accept4(__VA_ARGS__)
#endif
#define send(...) flexcast_or_send(__VA_ARGS__)
#define sendto(...) flexcast_or_sendto(__VA_ARGS__)
#define sendmsg(...) flexcast_or_sendmsg(__VA_ARGS__)
#define write(...) flexcast_or_write(__VA_ARGS__)
#define writev(...) flexcast_or_writev(__VA_ARGS__)
#define recv(...) flexcast_or_recv(__VA_ARGS__)
#define recvfrom(...) flexcast_or_recvfrom(__VA_ARGS__)
#define recvmsg(...) flexcast_or_recvmsg(__VA_ARGS__)
#define read(...) flexcast_or_read(__VA_ARGS__)
#define readv(...) flexcast_or_readv(__VA_ARGS__)
#define getsockname(...) flexcast_or_getsockname(__VA_ARGS__)
#define getpeername(...) flexcast_or_getpeername(__VA_ARGS__)
#define setsockopt(...) flexcast_or_setsockopt(__VA_ARGS__)
#define getsockopt(...) flexcast_or_getsockopt(__VA_ARGS__)
#define shutdown(...) flexcast_or_shutdown(__VA_ARGS__)
#define close(...) flexcast_or_close(__VA_ARGS__)
#endif

#endif
