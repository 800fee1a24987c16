/* Every call of flexcast.h in one process over loopback: what it gives, and each errno
   by name. Ends with "calls: all right", or with the line that is not. C11. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <flexcast.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sockets.h"

static void nonsense(void)
{
	char b[8];
	struct flexcast_channel c = loopback(1);
	struct flexcast_channel zero = loopback(0);
	socklen_t length = sizeof c;
	FAILS(flexcast_socket(AF_UNIX, SOCK_DGRAM, 0), EAFNOSUPPORT);
	FAILS(flexcast_socket(AF_INET, SOCK_STREAM, 0), EPROTONOSUPPORT);
	FAILS(flexcast_connect(-1, &c, sizeof c), EBADF);
	FAILS(flexcast_connect(1000, &c, sizeof c), EBADF);
	FAILS(flexcast_close(-1), EBADF);
	int file = open("/dev/null", O_RDONLY);
	FAILS(flexcast_recv(file, b, sizeof b), ENOTSOCK);
	FAILS(flexcast_close(file), ENOTSOCK);
	close(file);
	int stream = socket(AF_INET, SOCK_STREAM, 0);
	FAILS(flexcast_send(stream, b, 1), EPROTOTYPE);
	close(stream);
	int fd = flexcast_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & O_NONBLOCK));
	FAILS(flexcast_connect(fd, NULL, sizeof c), EFAULT);
	FAILS(flexcast_connect(fd, &c, 3), EINVAL);
	FAILS(flexcast_connect(fd, &zero, sizeof zero), EINVAL);
	FAILS(flexcast_listen(fd, 1), EDESTADDRREQ);
	FAILS(flexcast_accept(fd, NULL, NULL), EINVAL);
	FAILS(flexcast_send(fd, b, 1), ENOTCONN);
	FAILS(flexcast_recv(fd, b, 1), ENOTCONN);
	FAILS(flexcast_getpeername(fd, &c, &length), ENOTCONN);
	FAILS(flexcast_getsockname(fd, NULL, &length), EFAULT);
	FAILS(flexcast_getsockname(fd, &c, NULL), EFAULT);
	length = 3;
	FAILS(flexcast_getsockname(fd, &c, &length), EINVAL);
	FAILS(flexcast_shutdown(fd, 7), EINVAL);
	FAILS(flexcast_shutdown(fd, SHUT_RDWR), ENOTCONN);
	c.ip = htonl(0x0a090807);
	FAILS(flexcast_bind(fd, &c, sizeof c), EADDRNOTAVAIL);
	struct flexcast_channel6 six = { IN6ADDR_LOOPBACK_INIT, 1 };
	FAILS(flexcast_connect(fd, &six, sizeof six), EAFNOSUPPORT);
	unsigned int ms = 1;
	FAILS(flexcast_setsockopt(fd, SOL_FLEXCAST, FLEXCAST_HEARTBEAT, &ms, sizeof ms), EINVAL);
	FAILS(flexcast_setsockopt(fd, SOL_FLEXCAST, FLEXCAST_HEARTBEAT, &ms, 1), EINVAL);
	FAILS(flexcast_setsockopt(fd, SOL_FLEXCAST, 99, &ms, sizeof ms), ENOPROTOOPT);
	FAILS(flexcast_setsockopt(fd, SOL_SOCKET, 9999, &ms, sizeof ms), ENOPROTOOPT);
	FAILS(flexcast_setsockopt(fd, SOL_FLEXCAST, FLEXCAST_CREDENTIAL, b, 65), EINVAL);
	length = sizeof ms;
	FAILS(flexcast_getsockopt(fd, SOL_FLEXCAST, 99, &ms, &length), ENOPROTOOPT);
	FAILS(flexcast_getsockopt(fd, SOL_FLEXCAST, FLEXCAST_STATS, &ms, &length), ENOTCONN);
	CHECK(flexcast_close(fd) == 0);
	FAILS(flexcast_close(fd), EBADF);
	FAILS(flexcast_recv(fd, b, 1), EBADF);
}

static void options(void)
{
	int fd = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	unsigned int ms = 250;
	socklen_t length = sizeof ms;
	CHECK(flexcast_setsockopt(fd, SOL_FLEXCAST, FLEXCAST_HEARTBEAT, &ms, length) == 0);
	ms = 20000;
	CHECK(flexcast_setsockopt(fd, SOL_FLEXCAST, FLEXCAST_HOLD, &ms, length) == 0);
	CHECK(flexcast_getsockopt(fd, SOL_FLEXCAST, FLEXCAST_HEARTBEAT, &ms, &length) == 0);
	CHECK(ms == 250 && length == sizeof ms);
	CHECK(flexcast_getsockopt(fd, SOL_FLEXCAST, FLEXCAST_REFRESH, &ms, &length) == 0);
	CHECK(ms == 10000);
	CHECK(flexcast_setsockopt(fd, SOL_FLEXCAST, FLEXCAST_CREDENTIAL, "secret", 6) == 0);
	char word[64];
	length = sizeof word;
	CHECK(flexcast_getsockopt(fd, SOL_FLEXCAST, FLEXCAST_CREDENTIAL, word, &length) == 0);
	CHECK(length == 6 && memcmp(word, "secret", 6) == 0);
	struct sockaddr_in via = { .sin_family = AF_INET };
	via.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(flexcast_setsockopt(fd, SOL_FLEXCAST, FLEXCAST_VIA, &via, sizeof via) == 0);
	struct sockaddr_in back;
	length = sizeof back;
	CHECK(flexcast_getsockopt(fd, SOL_FLEXCAST, FLEXCAST_VIA, &back, &length) == 0);
	CHECK(back.sin_addr.s_addr == via.sin_addr.s_addr && back.sin_port == 0);
	CHECK(flexcast_close(fd) == 0);
}

static void waiting(void)
{
	int s = listener(0, SOCK_NONBLOCK);
	FAILS(flexcast_accept(s, NULL, NULL), EAGAIN);
	CHECK(!is_readable(s, 0));
	int r = receiver(77);
	CHECK(is_readable(s, 5000));
	struct flexcast_channel c = { 0, 0 };
	socklen_t length = sizeof c;
	int fd = flexcast_accept(s, &c, &length);
	CHECK(fd >= 0 && length == sizeof c && c.id == 77);
	CHECK(c.ip == htonl(INADDR_LOOPBACK));
	CHECK(!(fcntl(fd, F_GETFL) & O_NONBLOCK) && fcntl(fd, F_GETFD) == 0);
	c.id = 0;
	CHECK(flexcast_getpeername(fd, &c, &length) == 0 && c.id == 77);
	CHECK(flexcast_getsockname(s, &c, &length) == 0 && c.id == 0 && c.ip == INADDR_ANY);

	CHECK(!is_readable(r, 50));
	int e = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLIN };
	CHECK(epoll_ctl(e, EPOLL_CTL_ADD, r, &event) == 0);
	CHECK(flexcast_send(fd, "hello", 5) == 5);
	CHECK(epoll_wait(e, &event, 1, 5000) == 1);
	close(e);
	char b[8];
	CHECK(flexcast_recv(r, b, sizeof b) == 5 && memcmp(b, "hello", 5) == 0);
	CHECK(fcntl(r, F_SETFL, O_NONBLOCK) == 0);
	FAILS(flexcast_recv(r, b, sizeof b), EAGAIN);
	CHECK(fcntl(r, F_SETFL, 0) == 0);
	limit(r, 30);
	FAILS(flexcast_recv(r, b, sizeof b), EAGAIN);
	limit(r, 5000);

	/* A datagram longer than the buffer is cut off. */
	CHECK(flexcast_send(fd, "0123456789", 10) == 10);
	CHECK(flexcast_recv(r, b, 4) == 4 && memcmp(b, "0123", 4) == 0);
	FAILS(flexcast_send(fd, NULL, 4), EFAULT);
	char *big = calloc(1, 65492);
	FAILS(flexcast_send(fd, big, 65492), EMSGSIZE);
	free(big);
	FAILS(flexcast_send(r, b, 1), EOPNOTSUPP);

	/* A duplicate goes on when the first number is closed. */
	int twin = dup(r);
	CHECK(flexcast_close(r) == 0);
	CHECK(flexcast_send(fd, "again", 5) == 5);
	CHECK(flexcast_recv(twin, b, sizeof b) == 5);
	struct flexcast_requester all[2];
	length = sizeof all;
	CHECK(flexcast_getsockopt(fd, SOL_FLEXCAST, FLEXCAST_REQUESTERS, all, &length) == 0);
	CHECK(length == sizeof all[0] && all[0].datagrams == 3 && all[0].receivers == 1);
	CHECK(all[0].address.ss_family == AF_INET && all[0].since < 60000);
	CHECK(flexcast_close(twin) == 0);

	/* Nobody is left: end of file here, EPIPE there, and no signal. */
	limit(fd, 5000);
	CHECK(is_readable(fd, 5000));
	CHECK(flexcast_recv(fd, b, sizeof b) == 0);
	FAILS(flexcast_send(fd, "x", 1), EPIPE);
	CHECK(flexcast_close(fd) == 0);
	CHECK(flexcast_close(s) == 0);
}

static void many(void)
{
	int s = listener(5, 0);
	int second = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	struct flexcast_channel c = { INADDR_ANY, 5 };
	CHECK(flexcast_bind(second, &c, sizeof c) == 0);
	FAILS(flexcast_listen(second, 5), EADDRINUSE);
	CHECK(strstr(flexcast_strerror(EADDRINUSE), "listening") != NULL);
	CHECK(flexcast_close(second) == 0);
	int r = receiver(5);
	int fd = flexcast_accept(s, NULL, NULL);
	CHECK(fd >= 0);
	struct mmsghdr messages[4];
	struct iovec parts[4][2];
	char bodies[4][2][4];
	memset(messages, 0, sizeof messages);
	for (int n = 0; n < 4; n++) {
		for (int part = 0; part < 2; part++) {
			memset(bodies[n][part], 'a' + 2 * n + part, 4);
			parts[n][part] = (struct iovec){ bodies[n][part], 4 };
		}
		messages[n].msg_hdr.msg_iov = parts[n];
		messages[n].msg_hdr.msg_iovlen = 2;
	}
	CHECK(flexcast_sendmmsg(fd, messages, 3, 0) == 3);
	CHECK(messages[2].msg_len == 8);
	CHECK(flexcast_shutdown(fd, SHUT_WR) == 0);
	FAILS(flexcast_sendmmsg(fd, messages, 3, 0), EPIPE);
	memset(bodies, 0, sizeof bodies);
	int got = 0;
	struct timespec time = { 5, 0 };
	while (got < 4) {
		int n = flexcast_recvmmsg(r, messages + got, (unsigned)(4 - got), MSG_WAITFORONE,
					  &time);
		CHECK(n > 0);
		got += n;
	}
	CHECK(messages[0].msg_len == 8 && bodies[0][0][0] == 'a' && bodies[0][1][3] == 'b');
	CHECK(bodies[2][1][0] == 'f' && messages[2].msg_hdr.msg_flags == 0);
	CHECK(messages[3].msg_len == 0 && messages[3].msg_hdr.msg_flags == MSG_EOR);
	FAILS(flexcast_recvmmsg(r, messages, 4, MSG_DONTWAIT, NULL), EAGAIN);
	FAILS(flexcast_recvmmsg(r, NULL, 4, MSG_DONTWAIT, NULL), EFAULT);
	CHECK(flexcast_close(r) == 0 && flexcast_close(fd) == 0 && flexcast_close(s) == 0);
}

static void six(void)
{
	struct flexcast_channel6 any = { IN6ADDR_ANY_INIT, 0 };
	struct flexcast_channel6 c = { IN6ADDR_LOOPBACK_INIT, 6 };
	struct flexcast_channel6 asked;
	socklen_t length = sizeof asked;
	int s = flexcast_socket(AF_INET6, SOCK_DGRAM, 0);
	CHECK(flexcast_bind(s, &any, sizeof any) == 0 && flexcast_listen(s, 1) == 0);
	int r = flexcast_socket(AF_INET6, SOCK_DGRAM, 0);
	CHECK(flexcast_connect(r, &c, sizeof c) == 0);
	struct flexcast_channel small;
	socklen_t too_small = sizeof small;
	FAILS(flexcast_accept(s, &small, &too_small), EINVAL);
	int fd = flexcast_accept(s, &asked, &length);
	CHECK(fd >= 0 && length == sizeof asked && asked.id == 6);
	CHECK(memcmp(&asked.ip, &c.ip, sizeof c.ip) == 0);
	CHECK(flexcast_send(fd, "six", 3) == 3);
	char b[8];
	limit(r, 5000);
	CHECK(flexcast_recv(r, b, sizeof b) == 3);
	CHECK(flexcast_close(r) == 0 && flexcast_close(fd) == 0 && flexcast_close(s) == 0);
}

static void *wait_for_end(void *argument)
{
	char b[8];
	limit(*(int *)argument, 0);
	CHECK(flexcast_recv(*(int *)argument, b, sizeof b) == 0);
	return NULL;
}

static void threads(void)
{
	int r = receiver(4242);
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, wait_for_end, &r) == 0);
	usleep(50000);
	CHECK(flexcast_shutdown(r, SHUT_RD) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(flexcast_close(r) == 0);
}

static void forks(void)
{
	int s = listener(8, 0);
	int r = receiver(8);
	int fd = flexcast_accept(s, NULL, NULL);
	CHECK(flexcast_send(fd, "child", 5) == 5);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		/* It uses the parent's sockets, closes its numbers, and makes its own. */
		char b[8];
		CHECK(flexcast_recv(r, b, sizeof b) == 5);
		CHECK(flexcast_send(fd, "x", 1) == 1);
		CHECK(flexcast_recv(r, b, sizeof b) == 1);
		FAILS(flexcast_accept(s, NULL, NULL), EOPNOTSUPP);
		CHECK(flexcast_close(fd) == 0 && flexcast_close(s) == 0);
		CHECK(flexcast_close(r) == 0);
		int own = receiver(8);
		CHECK(flexcast_recv(own, b, sizeof b) == 6);
		CHECK(flexcast_close(own) == 0);
		exit(0);
	}
	struct flexcast_requester all[2];
	socklen_t length;
	int tries = 0;
	do {
		usleep(5000);
		length = sizeof all;
		CHECK(flexcast_getsockopt(fd, SOL_FLEXCAST, FLEXCAST_REQUESTERS, all, &length) == 0);
		CHECK(tries++ < 1000);
	} while (length < sizeof all);
	CHECK(flexcast_send(fd, "parent", 6) == 6);
	char b[8];
	CHECK(flexcast_recv(r, b, sizeof b) == 6 && memcmp(b, "parent", 6) == 0);
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(flexcast_close(r) == 0 && flexcast_close(fd) == 0 && flexcast_close(s) == 0);
}

/* A socket by all its numbers, made by whatever call; a number that is another's. */
static void copies(void)
{
	int s = listener(12, 0);
	unsigned int ms = 250;
	socklen_t length = sizeof ms;
	int first = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(flexcast_setsockopt(first, SOL_FLEXCAST, FLEXCAST_HEARTBEAT, &ms, length) == 0);
	int second = dup2(first, 200);
	CHECK(second == 200 && flexcast_close(first) == 0);
	ms = 0;
	CHECK(flexcast_getsockopt(second, SOL_FLEXCAST, FLEXCAST_HEARTBEAT, &ms, &length) == 0);
	CHECK(ms == 250);
	int third = fcntl(second, F_DUPFD_CLOEXEC, 300);
	CHECK(third >= 300 && fcntl(third, F_GETFD) == FD_CLOEXEC);
	struct flexcast_channel c = loopback(12);
	CHECK(flexcast_connect(second, &c, sizeof c) == 0 && flexcast_close(second) == 0);
	limit(third, 5000);
	FAILS(flexcast_connect(third, &c, sizeof c), EISCONN);
	int fd = flexcast_accept(s, NULL, NULL);
	int twin = dup(fd);
	CHECK(flexcast_close(fd) == 0);
	CHECK(flexcast_send(twin, "twin", 4) == 4);
	char b[8];
	CHECK(flexcast_recv(third, b, sizeof b) == 4);
	/* Its number becomes a file's, which nobody closes or takes for it. */
	int file = open("/dev/null", O_RDONLY);
	CHECK(dup2(file, third) == third);
	FAILS(flexcast_recv(third, b, sizeof b), ENOTSOCK);
	CHECK(flexcast_close(flexcast_socket(AF_INET, SOCK_DGRAM, 0)) == 0);
	CHECK(fcntl(third, F_GETFD) == 0);
	limit(twin, 5000);
	CHECK(flexcast_recv(twin, b, sizeof b) == 0);
	CHECK(close(third) == 0 && close(file) == 0);
	CHECK(flexcast_close(twin) == 0 && flexcast_close(s) == 0);
}

static void behind_our_back(void)
{
	int s = listener(9, 0);
	int r = receiver(9);
	int fd = flexcast_accept(s, NULL, NULL);
	CHECK(fd >= 0);
	close(fd);
	/* Calls that make sockets find out. */
	CHECK(flexcast_close(flexcast_socket(AF_INET, SOCK_DGRAM, 0)) == 0);
	char b[8];
	CHECK(flexcast_recv(r, b, sizeof b) == 0);
	CHECK(flexcast_close(r) == 0 && flexcast_close(s) == 0);
}

static int decide(const struct flexcast_request *request, void *argument)
{
	const struct sockaddr_in *from = (const struct sockaddr_in *)&request->requester;
	CHECK(request->channel.id == 10 && request->channel.ip.s6_addr[15] == 1);
	CHECK(from->sin_family == AF_INET && from->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	++*(int *)argument;
	return request->credential_length == 2 && memcmp(request->credential, "me", 2) == 0;
}

static void guarded(void)
{
	int asked = 0;
	struct flexcast_on_request on = { decide, &asked };
	struct flexcast_channel any = { INADDR_ANY, 0 };
	struct flexcast_channel ten = loopback(10);
	int s = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	FAILS(flexcast_setsockopt(s, SOL_FLEXCAST, FLEXCAST_ON_REQUEST, &on, 4), EINVAL);
	CHECK(flexcast_setsockopt(s, SOL_FLEXCAST, FLEXCAST_ON_REQUEST, &on, sizeof on) == 0);
	CHECK(flexcast_bind(s, &any, sizeof any) == 0 && flexcast_listen(s, 5) == 0);
	FAILS(flexcast_setsockopt(s, SOL_FLEXCAST, FLEXCAST_ON_REQUEST, &on, sizeof on), EINVAL);
	int stranger = receiver(10);
	char b[8];
	FAILS(flexcast_recv(stranger, b, sizeof b), ECONNREFUSED);
	int friend = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(flexcast_setsockopt(friend, SOL_FLEXCAST, FLEXCAST_CREDENTIAL, "me", 2) == 0);
	CHECK(flexcast_connect(friend, &ten, sizeof ten) == 0);
	int fd = flexcast_accept(s, NULL, NULL);
	CHECK(fd >= 0 && asked == 2);
	CHECK(flexcast_send(fd, "in", 2) == 2);
	limit(friend, 5000);
	CHECK(flexcast_recv(friend, b, sizeof b) == 2);
	CHECK(flexcast_close(stranger) == 0 && flexcast_close(friend) == 0);
	CHECK(flexcast_close(fd) == 0 && flexcast_close(s) == 0);
}

int main(void)
{
	nonsense();
	options();
	waiting();
	many();
	six();
	threads();
	forks();
	copies();
	behind_our_back();
	guarded();
	printf("calls: all right\n");
	return 0;
}
