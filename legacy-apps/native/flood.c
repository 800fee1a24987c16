/* flood: sends to many, through flexcast_send or by a plain loop.
 *
 *   flood [OPTION...] ID                        to whoever asks for channel ID, once
 *                                               somebody does
 *   flood [OPTION...] TO-ADDRESS FIRST COUNT    a sendto to each of COUNT ports of
 *                                               TO-ADDRESS, from FIRST on
 *   -r RATE   datagrams a second; else flat out
 *   -n COUNT  so many; else until SIGTERM
 *   -l HOW    leaves by close, exit, or fork (and _exit at once in the parent)
 *
 * From SIGUSR1 on it sends datagrams of 1316 bytes, each beginning with the time at which
 * it was given (CLOCK_REALTIME, ns) and its number, eight bytes each, big-endian. Ends with
 * "sent N datagrams, N ns": the CPU time of all its threads.
 *
 * Promises: both ways share every line but the call. IPv4. Is not a sender for use: it is
 * what scripts/bench.sh compares with, and what shim-tests/native-flood.sh counts.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <flexcast.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SIZE 1316

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

static long long clock_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void put(unsigned char *at, long long number)
{
	for (int i = 7; i >= 0; i--, number >>= 8)
		at[i] = number & 255;
}

/* A descriptor for whoever asks for the channel. */
static int accepted(uint64_t id)
{
	struct flexcast_channel at = { INADDR_ANY, id };
	int s = flexcast_socket(AF_INET, SOCK_DGRAM, 0), fd;
	if (flexcast_bind(s, &at, sizeof at) || flexcast_listen(s, 1))
		err(1, "channel %llu", (unsigned long long)id);
	fprintf(stderr, "listening\n");
	if ((fd = flexcast_accept(s, NULL, NULL)) < 0)
		err(1, "accept");
	return fd;
}

int main(int argc, char **argv)
{
	static unsigned char buffer[SIZE];
	struct sockaddr_in to[1000] = { { .sin_family = AF_INET } };
	const char *how = "close";
	int rate = 0, option, count = 0, fd;
	long long most = -1;

	while ((option = getopt(argc, argv, "r:n:l:")) != -1)
		switch (option) {
		case 'r': rate = atoi(optarg); break;
		case 'n': most = atoll(optarg); break;
		case 'l': how = optarg; break;
		default: argc = 0;
		}
	argc -= optind;
	argv += optind;
	if (argc == 3)
		count = atoi(argv[2]);
	if ((argc != 1 && argc != 3) || count > 1000 ||
	    (argc == 3 && inet_pton(AF_INET, argv[0], &to->sin_addr) != 1))
		errx(2, "usage: flood [-r RATE] [-n COUNT] [-l HOW] ID | TO-ADDRESS FIRST COUNT");
	struct sigaction action = { .sa_handler = stop };
	sigaction(SIGTERM, &action, NULL);
	sigset_t begin;
	sigemptyset(&begin);
	sigaddset(&begin, SIGUSR1);
	sigprocmask(SIG_BLOCK, &begin, NULL);
	for (int i = count - 1; i >= 0; i--) {
		to[i] = to[0];
		to[i].sin_port = htons((uint16_t)(atoi(argv[1]) + i));
	}
	fd = count ? socket(AF_INET, SOCK_DGRAM, 0) : accepted(strtoull(argv[0], NULL, 10));

	fprintf(stderr, "ready\n");
	sigwait(&begin, &option);
	long long sent = 0, spent = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	long long due = clock_ns(CLOCK_MONOTONIC);
	for (; !stopped && sent != most; sent++) {
		if (rate) {
			due += 1000000000LL / rate;
			struct timespec at = { due / 1000000000, due % 1000000000 };
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
		}
		put(buffer, clock_ns(CLOCK_REALTIME));
		put(buffer + 8, sent);
		if (!count && flexcast_send(fd, buffer, SIZE) < 0)
			err(1, "flexcast_send");
		for (int i = 0; i < count; i++)
			sendto(fd, buffer, SIZE, 0, (struct sockaddr *)&to[i], sizeof to[i]);
	}
	if (!strcmp(how, "fork") && fork())
		_exit(0);
	if (!count && !strcmp(how, "close"))
		flexcast_close(fd);
	spent = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - spent;
	printf("sent %lld datagrams, %lld ns\n", sent, spent);
	return 0;
}
