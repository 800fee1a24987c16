/* A storm of calls: threads that send, receive, connect, accept, close, set and ask at
   random, on the same descriptors, over loopback: storm SECONDS [THREADS [SEED]]
   Promises: whoever gets a datagram gets a whole one, of its channel, and each sender's in
   their order; each call fails in the ways that it may; nobody hangs; nobody is let in
   whom the callback refuses, nor refused whom it lets in; no descriptor and no thread is
   left over. Ends with a table of what was called and "storm: all right". Several may run
   in one network namespace. Is not a search for data races: ThreadSanitizer makes one of
   it (scripts/sanitize.sh). C11. */
#include "storm.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <flexcast.h>
#include <poll.h>
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

static size_t compose(struct worker *w, int fd, struct datagram *d)
{
	struct sent *before = &sent[w->number][facts[fd].id];
	if (before->stream != facts[fd].stream)
		*before = (struct sent){ facts[fd].stream, 0 };
	d->process = process;
	d->id = facts[fd].id;
	d->stream = facts[fd].stream;
	d->sequence = ++before->sequence;
	d->worker = (uint16_t)w->number;
	return write_datagram(d, below(w, sizeof d->fill));
}

static void send_one(struct worker *w, int fd)
{
	struct datagram d;
	size_t length = compose(w, fd, &d);
	begin(w, SEND, fd);
	ssize_t n = flexcast_send(fd, &d, length);
	if (end(w, n) && (size_t)n != length)
		wrong("%zd of %zu bytes were sent", n, length);
}

static void send_many(struct worker *w, int fd)
{
	struct datagram d[8];
	struct iovec parts[8][2];
	struct mmsghdr m[8];
	memset(m, 0, sizeof m);
	unsigned count = 1 + below(w, 8);
	for (unsigned n = 0; n < count; n++) {
		size_t length = compose(w, fd, &d[n]), cut = below(w, (unsigned)length);
		parts[n][0] = (struct iovec){ &d[n], cut };
		parts[n][1] = (struct iovec){ (char *)&d[n] + cut, length - cut };
		m[n].msg_hdr.msg_iov = parts[n];
		m[n].msg_hdr.msg_iovlen = 2;
	}
	begin(w, SENDMMSG, fd);
	int taken = flexcast_sendmmsg(fd, m, count, below(w, 2) ? MSG_DONTWAIT : 0);
	if (end(w, taken) && (unsigned)taken != count)
		wrong("%d of %u datagrams were sent", taken, count);
}

/* Flat out, as long as somebody is there. */
static void send_flat_out(struct worker *w, int fd)
{
	struct datagram d;
	ssize_t n = 0;
	for (int left = 400; left > 0 && n >= 0; left--) {
		size_t length = compose(w, fd, &d);
		begin(w, SEND, fd);
		n = flexcast_send(fd, &d, length);
		end(w, n);
	}
}

/* A datagram that a thread got at a shared socket; the view is that of a receiver's. */
static void check(struct view *view, int fd, const struct datagram *d, size_t length)
{
	check_whole(d, length);
	atomic_fetch_add_explicit(&heard, 1, memory_order_relaxed);
	if (view == NULL)
		return;
	const struct facts *at = &facts[fd];
	if (d->id != at->id) {
		/* Until a status has come, a socket that is not strict takes any of S. */
		if (at->strict)
			wrong("channel %llu came at a receiver of %llu", (unsigned long long)d->id,
			      (unsigned long long)at->id);
		atomic_fetch_add_explicit(&strays, 1, memory_order_relaxed);
		return;
	}
	if (at->refusable && GUARDED(d->id))
		wrong("%d was let in though the callback refused it", fd);
	if (view->fd != fd || view->process != d->process || view->stream != d->stream) {
		if (view->fd == fd && view->process == d->process && view->stream > d->stream)
			wrong("stream %u came after stream %u", d->stream, view->stream);
		memset(view, 0, sizeof *view);
		view->fd = fd;
		view->process = d->process;
		view->stream = d->stream;
	}
	if (d->sequence <= view->last[d->worker])
		wrong("sequence %u came after %u", d->sequence, view->last[d->worker]);
	view->last[d->worker] = d->sequence;
}

/* Takes a datagram, or some; 0, or the errno. */
static int receive_some(struct worker *w, int fd, struct view *view)
{
	struct datagram d[4];
	struct iovec parts[4];
	struct mmsghdr m[4];
	if (below(w, 3)) {
		begin(w, RECV, fd);
		ssize_t n = flexcast_recv(fd, d, sizeof *d);
		if (!end(w, n))
			return errno;
		if (n > 0)
			check(view, fd, d, (size_t)n);
		return 0;
	}
	memset(m, 0, sizeof m);
	for (int n = 0; n < 4; n++) {
		parts[n] = (struct iovec){ &d[n], sizeof d[n] };
		m[n].msg_hdr.msg_iov = &parts[n];
		m[n].msg_hdr.msg_iovlen = 1;
	}
	int flags = below(w, 2) ? MSG_DONTWAIT : MSG_WAITFORONE;
	begin(w, RECVMMSG, fd);
	int got = flexcast_recvmmsg(fd, m, 4, flags, NULL);
	if (!end(w, got))
		return errno;
	for (int n = 0; n < got; n++)
		if (m[n].msg_hdr.msg_flags != MSG_EOR)
			check(view, fd, &d[n], m[n].msg_len);
	return 0;
}

static void receive(struct worker *w, int fd, struct view *view)
{
	if (receive_some(w, fd, view) != ECONNREFUSED)
		return;
	if (view != NULL && !facts[fd].refusable)
		wrong("%d was refused though the callback lets it in", fd);
	atomic_fetch_add_explicit(&refused, 1, memory_order_relaxed);
}

static void ask(struct worker *w, int fd)
{
	struct flexcast_channel6 c;
	struct flexcast_requester all[8];
	struct flexcast_stats stats;
	socklen_t length = sizeof c;
	switch (below(w, 4)) {
	case 0:
		begin(w, GETSOCKOPT, fd);
		length = sizeof all;
		end(w, flexcast_getsockopt(fd, SOL_FLEXCAST, FLEXCAST_REQUESTERS, all, &length));
		break;
	case 1:
		begin(w, GETSOCKOPT, fd);
		length = sizeof stats;
		if (end(w, flexcast_getsockopt(fd, SOL_FLEXCAST, FLEXCAST_STATS, &stats, &length)) &&
		    stats.duplicates > 0)
			wrong("%llu datagrams came twice", (unsigned long long)stats.duplicates);
		break;
	case 2:
		begin(w, GETPEERNAME, fd);
		end(w, flexcast_getpeername(fd, &c, &length));
		break;
	default:
		begin(w, GETSOCKNAME, fd);
		end(w, flexcast_getsockname(fd, &c, &length));
	}
}

static void stop(struct worker *w, int fd, int how)
{
	begin(w, SHUTDOWN, fd);
	end(w, flexcast_shutdown(fd, how));
}

/* A second number, and what it names through it, while others close the first one. */
static void twin(struct worker *w, int fd)
{
	int second = number(w, fd);
	if (second < 0)
		return;
	receive(w, second, NULL);
	ask(w, second);
	shut(w, second);
}

static void await(struct worker *w)
{
	struct pollfd p[6];
	for (unsigned n = 0; n < COUNT(p); n++) {
		p[n].fd = atomic_load(n % 2 ? &receivers[below(w, RECEIVERS)]
					    : &listeners[below(w, LISTENERS)]);
		p[n].events = POLLIN;
	}
	begin(w, POLL, p[0].fd);
	end(w, poll(p, COUNT(p), (int)below(w, 40)));
}

/* A socket of the calling thread's alone, under the lowest number there is. */
static void alone(struct worker *w)
{
	uint64_t id = 1 + below(w, CHANNELS);
	struct facts its;
	int fd = make(w, AF_INET);
	if (below(w, 2)) {
		set_options(w, fd, &its);
		connect_to(w, fd, AF_INET, id);
		receive(w, fd, NULL);
	} else if (!GUARDED(id)) {
		bind_to(w, fd, AF_INET, id);
		listen_at(w, fd);
	}
	shut(w, fd);
}

/* Any call on a socket that is anything. */
static void anything(struct worker *w)
{
	atomic_int *place = &any[below(w, ANY)];
	int fd = atomic_load(place), taken;
	uint64_t id = 1 + below(w, CHANNELS);
	struct facts its;
	switch (below(w, 12)) {
	case 0:
		publish(w, place, settle(w, make(w, AF_INET)));
		break;
	case 1: shut(w, atomic_exchange(place, -1)); break;
	case 2: connect_to(w, fd, AF_INET, id); break;
	case 3: bind_to(w, fd, AF_INET, GUARDED(id) ? 1 : id); break;
	case 4: listen_at(w, fd); break;
	case 5:
		begin(w, ACCEPT, fd);
		taken = flexcast_accept(fd, NULL, NULL);
		if (end(w, taken))
			shut(w, taken);
		break;
	case 6: begin(w, SEND, fd); end(w, flexcast_send(fd, &process, 0)); break;
	case 7: receive(w, fd, NULL); break;
	case 8: ask(w, fd); break;
	case 9: stop(w, fd, (int)below(w, 3)); break;
	case 10: set(w, fd, FLEXCAST_ON_REQUEST, &on_request, sizeof on_request); break;
	default: set_options(w, fd, &its);
	}
}

static void step(struct worker *w)
{
	unsigned r = below(w, RECEIVERS), l = below(w, LISTENERS), d = 1 + below(w, CHANNELS);
	int receiver = atomic_load(&receivers[r]), listener = atomic_load(&listeners[l]);
	int delivery = atomic_load(&deliveries[d]);
	struct view *view = &views[w->number][r];
	unsigned what = below(w, 200);
	if (what < 70)
		receiver < 0 ? open_receiver(w, &receivers[r]) : receive(w, receiver, view);
	else if (what < 109 && delivery >= 0)
		below(w, 3) ? send_one(w, delivery) : send_many(w, delivery);
	else if (what < 110 && delivery >= 0)
		send_flat_out(w, delivery);
	else if (what < 130)
		listener < 0 ? open_listener(w, l) : take(w, listener);
	else if (what < 140)
		twin(w, below(w, 2) ? receiver : delivery);
	else if (what < 155)
		ask(w, below(w, 2) ? receiver : delivery);
	else if (what < 165)
		await(w);
	else if (what < 170)
		alone(w);
	else if (what < 173)
		stop(w, below(w, 2) ? receiver : delivery, (int)below(w, 3));
	else if (what < 176)
		receive(w, delivery, NULL);
	else if (what < 180)
		shut(w, atomic_exchange(&receivers[r], -1));
	else if (what < 182)
		shut(w, atomic_exchange(&listeners[l], -1));
	else if (what < 184)
		shut(w, atomic_exchange(&deliveries[d], -1));
	else if (what < 186)
		open_listener(w, l);
	else if (what < 188)
		open_receiver(w, &receivers[r]);
	else
		anything(w);
}

/* Runs in a thread of the library, which is a worker while it does. */
static int decide(const struct flexcast_request *request, void *argument)
{
	struct worker *w = &worker[workers - 1];
	if (argument != &asking || atomic_fetch_add(&asking, 1) != 0)
		wrong("two questions at once");
	if (request->channel.id < 1 || request->channel.id > CHANNELS)
		wrong("asked about channel %llu", (unsigned long long)request->channel.id);
	for (unsigned n = below(w, 4); n > 0 && !atomic_load(&over); n--)
		step(w);
	atomic_fetch_sub(&asking, 1);
	return request->credential_length == 0;
}

static void *work(void *argument)
{
	struct worker *w = argument;
	while (!atomic_load_explicit(&over, memory_order_relaxed)) {
		step(w);
		usleep(below(w, PAUSE));
	}
	return NULL;
}

static void close_all(struct worker *w, atomic_int *places, unsigned count)
{
	for (unsigned n = 0; n < count; n++)
		shut(w, atomic_exchange(&places[n], -1));
}

/* What is left when all is closed: two F, three or four threads and what they hold. */
static void check_what_is_left(struct worker *w, unsigned before)
{
	time_t until = seconds() + 20;
	unsigned fds, threads, private;
	do {
		usleep(100000);
		alone(w);
		fds = entries("/proc/self/fd");
		threads = entries("/proc/self/task");
		private = most_private();
	} while ((fds > before + 2 || threads > 6 || private > 24) && seconds() < until);
	if (fds > before + 2)
		wrong("%u descriptors are left, %u were there", fds, before);
	if (threads > 6)
		wrong("%u threads are left", threads);
	if (private > 24)
		wrong("a thread of the library keeps %u descriptors", private);
}

static void fill(atomic_int *places, unsigned count)
{
	for (unsigned n = 0; n < count; n++)
		atomic_init(&places[n], -1);
}

int main(int argc, char **argv)
{
	int time = argc > 1 ? atoi(argv[1]) : 60, threads = argc > 2 ? atoi(argv[2]) : 64;
	uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 0) : (uint64_t)getpid();
	if (time < 1 || threads < 1 || threads > MOST_WORKERS - 2) {
		fprintf(stderr, "usage: storm SECONDS [THREADS [SEED]]\n");
		return 2;
	}
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	highest_number = limit.rlim_cur < COUNT(facts) ? (int)limit.rlim_cur - 1000 : 60000;
	atomic_init(&next_number, lowest_number);
	atomic_init(&next_stream, 1);
	process = (uint64_t)getpid() << 32 | 1;
	fill(receivers, RECEIVERS);
	fill(listeners, LISTENERS);
	fill(deliveries, CHANNELS + 1);
	fill(any, ANY);
	workers = (unsigned)threads + 2;
	for (unsigned n = 0; n < workers; n++) {
		worker[n].number = n;
		worker[n].random = seed * 1000003 + n;
		atomic_init(&worker[n].call, CALLS);
	}
	unsigned before = entries("/proc/self/fd"), most = 0;
	printf("storm: %d s, %d threads, seed %llu\n", time, threads, (unsigned long long)seed);
	fflush(stdout);

	pthread_t thread[MOST_WORKERS];
	for (int n = 0; n < threads; n++)
		if (pthread_create(&thread[n], NULL, work, &worker[n]) != 0)
			wrong("no thread");
	for (time_t until = seconds() + time; seconds() < until; usleep(LOOK)) {
		look_after_workers();
		/* The library has three or four, and one a channel that is flat out. */
		unsigned now = entries("/proc/self/task");
		most = now > most ? now : most;
		if (now > (unsigned)threads + 22)
			wrong("%u threads, though %d were started", now, threads);
	}
	atomic_store(&over, 1);
	struct worker *w = &worker[threads];
	for (int n = 0; n < threads; n++) {
		while (pthread_tryjoin_np(thread[n], NULL) != 0) {
			look_after_workers();
			usleep(LOOK);
		}
	}
	close_all(w, receivers, RECEIVERS);
	close_all(w, any, ANY);
	close_all(w, deliveries, CHANNELS + 1);
	close_all(w, listeners, LISTENERS);
	check_what_is_left(w, before);
	sum_up();
	printf("datagrams %llu (of others' channels, before a grant: %llu), refusals %llu\n",
	       atomic_load(&heard), atomic_load(&strays), atomic_load(&refused));
	printf("threads %u at most\n", most);
	/* A small storm beside a large one may have got no id at all. */
	for (int call = 0; call < CALLS; call++)
		if (threads >= 64 && atomic_load(&done[call]) == 0)
			wrong("no %s went well", CALL[call].name);
	if (threads >= 64 && (atomic_load(&heard) == 0 || atomic_load(&refused) == 0))
		wrong("nobody heard anything, or nobody was refused");
	if (atomic_load(&strays) * 20 > atomic_load(&heard))
		wrong("too much came from others' channels");
	printf("storm: all right\n");
	return 0;
}
