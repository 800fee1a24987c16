/* A receiving socket that a parent and its child hold: the stream goes on in whichever
   of them goes on. One scenario by name; ends with "shared: all right", or with the
   line that is not. C11.

     sender ---- stream, a datagram a millisecond ----> parent { socket } child

   Requests are sent each second and held for 2 s: a stream of 4 s is asked for by
   somebody. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <flexcast.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sockets.h"

enum { ID = 8, DATAGRAMS = 4000 };

/* What whoever received tells the sender: how many, the first, the last. */
struct told {
	unsigned count, first, last, end;
};

static int family[2];

static int asks_each_second(void)
{
	struct flexcast_channel c = loopback(ID);
	int fd = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	unsigned refresh = 1000, hold = 2000;
	CHECK(flexcast_setsockopt(fd, SOL_FLEXCAST, FLEXCAST_HOLD, &hold, sizeof hold) == 0);
	CHECK(flexcast_setsockopt(fd, SOL_FLEXCAST, FLEXCAST_REFRESH, &refresh, sizeof hold) == 0);
	limit(fd, 10000);
	CHECK(flexcast_connect(fd, &c, sizeof c) == 0);
	return fd;
}

static void tell(const struct told *told)
{
	CHECK(write(family[1], told, sizeof *told) == sizeof *told);
}

/* Receives up to `most` datagrams or to the end. */
static struct told receive(int fd, unsigned most)
{
	struct told told = { 0, 0, 0, 0 };
	while (told.count < most) {
		unsigned n;
		ssize_t length = flexcast_recv(fd, &n, sizeof n);
		CHECK(length == 0 || length == sizeof n);
		if (length == 0) {
			told.end = 1;
			break;
		}
		CHECK(told.count == 0 || n > told.last);
		if (told.count++ == 0)
			told.first = n;
		told.last = n;
	}
	return told;
}

static void receive_all(int fd)
{
	struct told told = receive(fd, -1u);
	tell(&told);
	CHECK(flexcast_close(fd) == 0);
	exit(0);
}

/* Each of these is the receiving family's first process. */

static void parent_closes(int plainly)
{
	int fd = asks_each_second();
	receive(fd, 10);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0)
		receive_all(fd);
	CHECK((plainly ? close(fd) : flexcast_close(fd)) == 0);
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void parent_ends(const char *how)
{
	int fd = asks_each_second();
	receive(fd, 10);
	if (strcmp(how, "daemon") == 0) {
		CHECK(daemon(1, 1) == 0);
		/* As an event loop does: no call of ours before there is something. */
		struct pollfd p = { fd, POLLIN, 0 };
		CHECK(poll(&p, 1, 5000) == 1);
		receive_all(fd);
	}
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0)
		receive_all(fd);
	if (strcmp(how, "exit") == 0)
		exit(0);
	if (strcmp(how, "_exit") == 0)
		_exit(0);
	raise(SIGKILL);
}

static void child_ends(void)
{
	int fd = asks_each_second();
	receive(fd, 10);
	for (int how = 0; how < 3; how++) {
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			if (how == 0)
				CHECK(flexcast_close(fd) == 0);
			if (how == 1)
				execlp("true", "true", (char *)NULL);
			exit(0);
		}
		int status;
		CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
	/* A child of vfork that closes, and one that runs something. */
	for (int how = 0; how < 2; how++) {
		pid_t child = vfork();
		CHECK(child >= 0);
		if (child == 0) {
			if (how == 0)
				_exit(flexcast_close(fd));
			execlp("true", "true", (char *)NULL);
			_exit(1);
		}
		int status;
		CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
	CHECK(system("true") == 0);
	receive_all(fd);
}

static void both_receive(void)
{
	int fd = asks_each_second();
	receive(fd, 10);
	pid_t child = fork();
	CHECK(child >= 0);
	struct told told = receive(fd, -1u);
	tell(&told);
	CHECK(told.end && flexcast_close(fd) == 0);
	if (child == 0)
		exit(0);
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void both_refused(void)
{
	int fd = asks_each_second();
	pid_t child = fork();
	CHECK(child >= 0);
	char b[8];
	FAILS(flexcast_recv(fd, b, sizeof b), ECONNREFUSED);
	struct told told = { 1, 0, 0, 0 };
	tell(&told);
	CHECK(flexcast_close(fd) == 0);
	if (child == 0)
		exit(0);
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* Three generations; each waits until the one before is gone. */
static void handed_down(void)
{
	int fd = asks_each_second();
	receive(fd, 10);
	for (int generation = 0; generation < 2; generation++) {
		pid_t parent = getpid();
		pid_t child = fork();
		CHECK(child >= 0);
		if (child != 0)
			exit(0);
		while (getppid() == parent)
			usleep(1000);
		receive(fd, 100);
	}
	receive_all(fd);
}

static int no_one(const struct flexcast_request *request, void *argument)
{
	(void)request;
	(void)argument;
	return 0;
}

static unsigned now_ms(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (unsigned)(time.tv_sec * 1000 + time.tv_nsec / 1000000);
}

static struct told hear(void)
{
	struct told told;
	struct pollfd p = { family[0], POLLIN, 0 };
	CHECK(poll(&p, 1, 10000) == 1);
	CHECK(read(family[0], &told, sizeof told) == sizeof told);
	return told;
}

int main(int count, char **words)
{
	CHECK(count == 2);
	const char *name = words[1];
	CHECK(pipe(family) == 0);
	pid_t receivers = fork();
	CHECK(receivers >= 0);
	if (receivers == 0) {
		close(family[0]);
		if (strcmp(name, "closes") == 0)
			parent_closes(0);
		else if (strcmp(name, "closes-plainly") == 0)
			parent_closes(1);
		else if (strcmp(name, "both") == 0)
			both_receive();
		else if (strcmp(name, "refused") == 0)
			both_refused();
		else if (strcmp(name, "child") == 0)
			child_ends();
		else if (strcmp(name, "handed-down") == 0)
			handed_down();
		else
			parent_ends(name);
		exit(0);
	}
	close(family[1]);
	struct flexcast_channel any = { INADDR_ANY, ID };
	struct flexcast_on_request on = { no_one, NULL };
	int s = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	limit(s, 5000);
	if (strcmp(name, "refused") == 0)
		CHECK(flexcast_setsockopt(s, SOL_FLEXCAST, FLEXCAST_ON_REQUEST, &on, sizeof on) == 0);
	CHECK(flexcast_bind(s, &any, sizeof any) == 0 && flexcast_listen(s, 5) == 0);
	if (strcmp(name, "refused") == 0) {
		hear();
		hear();
	} else {
		int fd = flexcast_accept(s, NULL, NULL);
		CHECK(fd >= 0);
		for (unsigned n = 0; n < DATAGRAMS; n++) {
			CHECK(flexcast_send(fd, &n, sizeof n) == sizeof n);
			usleep(1000);
		}
		CHECK(flexcast_shutdown(fd, SHUT_WR) == 0 && flexcast_close(fd) == 0);
		struct told told = hear();
		CHECK(told.end && told.last < DATAGRAMS);
		if (strcmp(name, "both") == 0) {
			struct told other = hear();
			CHECK(other.end && told.count + other.count == DATAGRAMS - 10);
			CHECK(told.count > 0 && other.count > 0);
		} else {
			CHECK(told.last == DATAGRAMS - 1);
			CHECK(told.last - told.first + 1 == told.count);
			CHECK(told.first == 10 || strcmp(name, "handed-down") == 0);
		}
	}
	int status;
	CHECK(waitpid(receivers, &status, 0) == receivers);
	CHECK(strcmp(name, "killed") == 0 ? WIFSIGNALED(status) : status == 0);
	/* Its children too are gone, and the last one's close left: the next receiver is the
	   first. */
	char nothing;
	CHECK(read(family[0], &nothing, 1) == 0);
	unsigned before = now_ms();
	if (strcmp(name, "refused") != 0) {
		int r = receiver(ID);
		int fd = flexcast_accept(s, NULL, NULL);
		struct flexcast_requester all[3];
		socklen_t length = sizeof all;
		CHECK(flexcast_getsockopt(fd, SOL_FLEXCAST, FLEXCAST_REQUESTERS, all, &length) == 0);
		CHECK(length == sizeof all[0] && now_ms() - before < 900);
		CHECK(flexcast_close(r) == 0 && flexcast_close(fd) == 0);
	}
	CHECK(flexcast_close(s) == 0);
	printf("shared: all right\n");
	return 0;
}
