/* A storm of calls: threads that send, receive, connect, accept, close, set and ask at
   random, on the same descriptors, over loopback: storm SECONDS [THREADS [SEED]]
   Promises: whoever gets a datagram gets a whole one, of its channel, and each sender's in
   their order; each call fails in the ways that it may; nobody hangs; nobody is let in
   whom the callback refuses, nor refused whom it lets in; no descriptor and no thread is
   left over. Ends with a table of what was called and "storm: all right". Several may run
   in one network namespace. Is not a search for data races: ThreadSanitizer makes one of
   it (scripts/sanitize.sh). C11. */
#include "storm-traffic.h"

#include <poll.h>

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
