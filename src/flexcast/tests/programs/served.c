/* An accepted socket that a parent and its children hold: what a child sends reaches
   every requester once, and the stream ends with the last of them. One scenario by
   name; ends with "served: all right", or with the line that is not. C11.

     parent: listen, accept, fork, close ... accept
     child:  send, close                            ----> receivers, other processes
*/
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <flexcast.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sockets.h"

enum { DATAGRAMS = 300 };

static unsigned requesters(int fd)
{
	struct flexcast_requester all[4];
	socklen_t length = sizeof all;
	CHECK(flexcast_getsockopt(fd, SOL_FLEXCAST, FLEXCAST_REQUESTERS, all, &length) == 0);
	return length / sizeof all[0];
}

/* The next channel, when it has so many requesters. */
static int accepted(int s, unsigned count)
{
	int fd = flexcast_accept(s, NULL, NULL);
	CHECK(fd >= 0);
	for (int tries = 0; requesters(fd) < count; tries++) {
		CHECK(tries < 5000);
		usleep(1000);
	}
	return fd;
}

/* A process that takes datagrams 0, 1, 2 ... until the end, `count` of them. */
static pid_t expects(uint64_t id, unsigned count)
{
	pid_t process = fork();
	CHECK(process >= 0);
	if (process != 0)
		return process;
	int fd = receiver(id);
	limit(fd, 10000);
	unsigned n, next = 0;
	ssize_t length;
	while ((length = flexcast_recv(fd, &n, sizeof n)) != 0) {
		CHECK(length == sizeof n && n == next);
		next++;
	}
	CHECK(next == count && flexcast_close(fd) == 0);
	exit(0);
}

static void is_well(pid_t process)
{
	int status;
	CHECK(waitpid(process, &status, 0) == process && status == 0);
}

static void sends(int fd, unsigned from, unsigned to)
{
	for (unsigned n = from; n < to; n++)
		CHECK(flexcast_send(fd, &n, sizeof n) == sizeof n);
}

static void a_child_each(int s)
{
	pid_t children[4], receivers[4][2];
	for (int at = 0; at < 4; at++) {
		for (int of = 0; of < 2; of++)
			receivers[at][of] = expects(20 + (uint64_t)at, DATAGRAMS);
		int fd = accepted(s, 2);
		children[at] = fork();
		CHECK(children[at] >= 0);
		if (children[at] == 0) {
			CHECK(flexcast_close(s) == 0);
			struct flexcast_channel c;
			socklen_t length = sizeof c;
			CHECK(flexcast_getpeername(fd, &c, &length) == 0);
			CHECK(c.id == 20 + (uint64_t)at);
			sends(fd, 0, DATAGRAMS);
			/* Closed by call, by exit, by hand, and not at all. */
			if (at == 0)
				CHECK(flexcast_close(fd) == 0);
			if (at == 1)
				exit(0);
			if (at == 2)
				CHECK(close(fd) == 0);
			if (at == 3)
				raise(SIGKILL);
			_exit(0);
		}
		CHECK(flexcast_close(fd) == 0);
	}
	for (int at = 0; at < 4; at++) {
		int status;
		CHECK(waitpid(children[at], &status, 0) == children[at]);
		CHECK(at == 3 ? WIFSIGNALED(status) : status == 0);
		for (int of = 0; of < 2; of++)
			is_well(receivers[at][of]);
	}
}

/* Three processes send in turn; one after the other closes. */
static void all_hold(int s)
{
	pid_t receivers[2] = { expects(30, 400), expects(30, 400) };
	int fd = accepted(s, 2);
	sends(fd, 0, 100);
	pid_t first = fork();
	CHECK(first >= 0);
	if (first == 0) {
		sends(fd, 100, 200);
		CHECK(flexcast_close(fd) == 0);
		exit(0);
	}
	is_well(first);
	sends(fd, 200, 300);
	pid_t second = fork();
	CHECK(second >= 0);
	if (second == 0) {
		/* A child of a child, and a duplicate. */
		pid_t third = fork();
		CHECK(third >= 0);
		if (third == 0) {
			int twin = dup(fd);
			CHECK(flexcast_close(fd) == 0);
			usleep(300000);
			sends(twin, 300, 400);
			exit(0);
		}
		CHECK(flexcast_close(fd) == 0);
		is_well(third);
		exit(0);
	}
	CHECK(flexcast_close(fd) == 0);
	is_well(second);
	is_well(receivers[0]);
	is_well(receivers[1]);
}

static void nobody_is_left(int s)
{
	int r = receiver(40);
	int fd = accepted(s, 1);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		CHECK(flexcast_close(r) == 0);
		unsigned n = 0;
		CHECK(flexcast_send(fd, &n, sizeof n) == sizeof n);
		limit(fd, 5000);
		CHECK(is_readable(fd, 5000));
		CHECK(flexcast_recv(fd, &n, sizeof n) == 0);
		FAILS(flexcast_send(fd, &n, sizeof n), EPIPE);
		CHECK(flexcast_close(fd) == 0);
		exit(0);
	}
	CHECK(flexcast_close(fd) == 0);
	unsigned n;
	CHECK(flexcast_recv(r, &n, sizeof n) == sizeof n);
	CHECK(flexcast_close(r) == 0);
	is_well(child);
	/* A new requester is for the next accept. */
	r = receiver(40);
	fd = accepted(s, 1);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		char big[65492] = "";
		FAILS(flexcast_send(fd, big, sizeof big), EMSGSIZE);
		CHECK(flexcast_send(fd, big, 65491) == 65491);
		CHECK(flexcast_shutdown(fd, SHUT_WR) == 0);
		FAILS(flexcast_send(fd, big, 1), EPIPE);
		exit(0);
	}
	is_well(child);
	char b[8];
	CHECK(flexcast_recv(r, b, sizeof b) == sizeof b);
	CHECK(flexcast_recv(r, b, sizeof b) == 0);
	FAILS(flexcast_send(fd, b, 1), EPIPE);
	CHECK(flexcast_close(r) == 0 && flexcast_close(fd) == 0);
}

int main(int count, char **words)
{
	CHECK(count == 2);
	int s = listener(0, 0);
	if (strcmp(words[1], "a-child-each") == 0)
		a_child_each(s);
	else if (strcmp(words[1], "all-hold") == 0)
		all_hold(s);
	else
		nobody_is_left(s);
	CHECK(flexcast_close(s) == 0);
	printf("served: all right\n");
	return 0;
}
