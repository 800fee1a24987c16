/* What a storm of calls (storm.c) is watched by: the errnos that each call may give, the
   watch over threads that hang, datagrams that show what they are, and what a process is
   to have left of descriptors and threads when all is over.
   Promises: whatever is not right is said in one line, and ends the process with 1.
   Is not what is called, nor when. C11. */
#ifndef STORM_H
#define STORM_H

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK 500000 /* microseconds between two looks of the watch */
#define HANGS_AFTER 40 /* looks in one call, 20 s, that should take one at most */
#define MOST_WORKERS 130
#define COUNT(array) (sizeof(array) / sizeof *(array))

enum call {
	SOCKET, CONNECT, BIND, LISTEN, ACCEPT, SEND, SENDMMSG, RECV, RECVMMSG, SETSOCKOPT,
	GETSOCKOPT, GETSOCKNAME, GETPEERNAME, SHUTDOWN, CLOSE, POLL, DUP, CALLS
};

/* What each call may fail with here: nobody is out of memory, nor asks nonsense, but
   descriptors are closed under everybody's feet, and have become something else. */
static const struct {
	const char *name;
	int errnos[6];
} CALL[CALLS] = {
	[SOCKET] = { "socket", { 0 } },
	[CONNECT] = { "connect", { EBADF, EISCONN, EOPNOTSUPP } },
	[BIND] = { "bind", { EBADF, EINVAL } },
	[LISTEN] = { "listen", { EBADF, EINVAL, EADDRINUSE, EDESTADDRREQ } },
	[ACCEPT] = { "accept", { EBADF, EINVAL, EAGAIN } },
	[SEND] = { "send", { EBADF, EPIPE, ENOTCONN, EOPNOTSUPP } },
	[SENDMMSG] = { "sendmmsg", { EBADF, EPIPE, ENOTCONN, EOPNOTSUPP } },
	[RECV] = { "recv", { EBADF, EAGAIN, ENOTCONN, ECONNREFUSED } },
	[RECVMMSG] = { "recvmmsg", { EBADF, EAGAIN, ENOTCONN, ECONNREFUSED } },
	[SETSOCKOPT] = { "setsockopt", { EBADF, EINVAL, EISCONN } },
	[GETSOCKOPT] = { "getsockopt", { EBADF, ENOTCONN } },
	[GETSOCKNAME] = { "getsockname", { EBADF } },
	[GETPEERNAME] = { "getpeername", { EBADF, ENOTCONN } },
	[SHUTDOWN] = { "shutdown", { EBADF, ENOTCONN } },
	[CLOSE] = { "close", { EBADF } },
	[POLL] = { "poll", { 0 } },
	[DUP] = { "fcntl(F_DUPFD)", { EBADF } },
};

/* A thread that calls, as the watch sees it. */
struct worker {
	uint64_t random;
	unsigned number;
	atomic_int call; /* CALLS: none */
	atomic_int fd;
	atomic_uint since; /* which look */
};

static struct worker worker[MOST_WORKERS];
static unsigned workers;
/* How often the watch has looked. Time is counted in looks, so that a machine that stands
   still is no thread that hangs. */
static atomic_uint looks;
static atomic_ullong done[CALLS], failed[CALLS][COUNT(CALL[0].errnos)];

static time_t seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static _Noreturn void wrong(const char *what, ...)
{
	va_list arguments;
	va_start(arguments, what);
	char line[400];
	vsnprintf(line, sizeof line, what, arguments);
	va_end(arguments);
	printf("storm: %s\n", line);
	fflush(stdout);
	_exit(1);
}

static void begin(struct worker *w, enum call call, int fd)
{
	atomic_store_explicit(&w->fd, fd, memory_order_relaxed);
	atomic_store_explicit(&w->since, atomic_load(&looks), memory_order_relaxed);
	atomic_store_explicit(&w->call, (int)call, memory_order_relaxed);
}

/* Whether it went well; its errno, left as it was, is one that it may have. */
static int end(struct worker *w, long outcome)
{
	int error = errno;
	int call = atomic_load_explicit(&w->call, memory_order_relaxed);
	atomic_store_explicit(&w->call, CALLS, memory_order_relaxed);
	if (outcome != -1) {
		atomic_fetch_add_explicit(&done[call], 1, memory_order_relaxed);
		return 1;
	}
	for (unsigned n = 0; n < COUNT(CALL[call].errnos); n++) {
		if (error != 0 && CALL[call].errnos[n] == error) {
			atomic_fetch_add_explicit(&failed[call][n], 1, memory_order_relaxed);
			errno = error;
			return 0;
		}
	}
	/* The library waits 5 s for its threads, by the clock of the machine. */
	if (error == ETIMEDOUT && atomic_load(&looks) - atomic_load(&w->since) < 4)
		return 0;
	int fd = atomic_load_explicit(&w->fd, memory_order_relaxed);
	wrong("%s on %d gave %s: %s", CALL[call].name, fd, strerrorname_np(error),
	      strerror(error));
}

/* Looks at all, and ends the process where a thread stays in one call. */
static void look_after_workers(void)
{
	unsigned now = atomic_fetch_add(&looks, 1);
	int hang = 0;
	for (unsigned n = 0; n < workers; n++) {
		int call = atomic_load_explicit(&worker[n].call, memory_order_relaxed);
		int in = (int)(now - atomic_load_explicit(&worker[n].since,
							  memory_order_relaxed));
		if (call == CALLS || in <= HANGS_AFTER)
			continue;
		printf("storm: thread %u is in %s(%d) for %d looks\n", n, CALL[call].name,
		       atomic_load_explicit(&worker[n].fd, memory_order_relaxed), in);
		hang++;
	}
	if (hang > 0) {
		fflush(stdout);
		abort();
	}
}

static void sum_up(void)
{
	for (int call = 0; call < CALLS; call++) {
		printf("%12s %8llu", CALL[call].name, atomic_load(&done[call]));
		for (unsigned n = 0; n < COUNT(CALL[call].errnos); n++)
			if (atomic_load(&failed[call][n]) > 0)
				printf("  %s %llu", strerrorname_np(CALL[call].errnos[n]),
				       atomic_load(&failed[call][n]));
		printf("\n");
	}
}

/* A datagram that shows where it comes from, and whether it is whole. */
struct datagram {
	uint64_t process; /* random, not 0 */
	uint64_t id;
	uint32_t stream; /* counted by its process */
	uint32_t sequence; /* of this worker in this stream */
	uint16_t worker;
	uint16_t length;
	unsigned char fill[1300];
};
#define HEAD offsetof(struct datagram, fill)

static size_t write_datagram(struct datagram *d, size_t fill)
{
	d->length = (uint16_t)(HEAD + fill);
	memset(d->fill, (int)(d->sequence + d->id) & 0xff, fill);
	return d->length;
}

static void check_whole(const struct datagram *d, size_t length)
{
	if (length < HEAD || d->length != length || d->worker >= MOST_WORKERS || d->process == 0)
		wrong("a datagram of %zu bytes is not whole", length);
	for (size_t n = 0; n < length - HEAD; n++)
		if (d->fill[n] != ((d->sequence + d->id) & 0xff))
			wrong("byte %zu of a datagram of %zu is another's", n, length);
}

static unsigned entries(const char *directory)
{
	unsigned count = 0;
	DIR *all = opendir(directory);
	if (all == NULL)
		return 0;
	while (readdir(all) != NULL)
		count++;
	closedir(all);
	return count - 2;
}

/* The most descriptors that a thread of the library has in a table of its own. */
static unsigned most_private(void)
{
	unsigned most = 0;
	char path[64];
	DIR *all = opendir("/proc/self/task");
	for (struct dirent *task; (task = readdir(all)) != NULL;) {
		snprintf(path, sizeof path, "/proc/self/task/%.20s/fd", task->d_name);
		unsigned here = task->d_name[0] == '.' ? 0 : entries(path);
		most = here > most ? here : most;
	}
	closedir(all);
	return most;
}

#endif
