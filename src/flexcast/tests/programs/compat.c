/* What flexcast_compat.h says, by a source that has the system's calls alone; loopback.
   `compat` wants the rules of RULES, by variable or file, `compat plain` takes any that
   name none of its addresses, `compat serve PORT` is a server of one byte. Ends with "compat: all right", or with the line that is
   not. Included by -include; C11 and C++17. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <flexcast.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define RULES "127.0.0.0/8:6000-6049=self [::1]:6000-6049=self 127.0.0.1:6050=127.0.0.1+127.0.0.2 127.0.0.1:6051=self,role=off"

#define CHECK(what)                                                             \
	do {                                                                    \
		if (!(what)) {                                                  \
			printf("line %d: %s: %s\n", __LINE__, #what, strerror(errno)); \
			exit(1);                                                \
		}                                                               \
	} while (0)
#define FAILS(call, number)                                                     \
	do {                                                                    \
		errno = 0;                                                      \
		CHECK((call) == -1);                                            \
		CHECK(errno == (number));                                       \
	} while (0)

static char bytes[5000], got[6000];

static struct sockaddr_in v4(in_addr_t ip, int port)
{
	struct sockaddr_in name;
	memset(&name, 0, sizeof name);
	name.sin_family = AF_INET;
	name.sin_addr.s_addr = htonl(ip);
	name.sin_port = htons((uint16_t)port);
	return name;
}

static struct sockaddr_in6 v6(struct in6_addr ip, int port)
{
	struct sockaddr_in6 name;
	memset(&name, 0, sizeof name);
	name.sin6_family = AF_INET6;
	name.sin6_addr = ip;
	name.sin6_port = htons((uint16_t)port);
	return name;
}

static int word(int fd, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof value;
	CHECK(getsockopt(fd, level, name, &value, &length) == 0 && length == sizeof value);
	return value;
}

static int is_readable(int fd, int ms)
{
	struct pollfd p;
	p.fd = fd;
	p.events = POLLIN;
	return poll(&p, 1, ms) == 1 && (p.revents & POLLIN);
}

static int server(int type, int port)
{
	struct sockaddr_in name = v4(INADDR_ANY, port);
	int on = 1, fd = socket(AF_INET, type, 0);
	CHECK(fd >= 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
	CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0);
	CHECK(listen(fd, 5) == 0);
	return fd;
}

static int client(int type, int port)
{
	struct sockaddr_in name = v4(INADDR_LOOPBACK, port);
	struct timeval limit;
	int fd = socket(AF_INET, type, 0);
	limit.tv_sec = 5;
	limit.tv_usec = 0;
	CHECK(fd >= 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
	CHECK(connect(fd, (struct sockaddr *)&name, sizeof name) == 0);
	return fd;
}

static uint64_t received(int fd)
{
	struct flexcast_stats stats;
	socklen_t length = sizeof stats;
	CHECK(getsockopt(fd, SOL_FLEXCAST, FLEXCAST_STATS, &stats, &length) == 0);
	return stats.received;
}

static void names(int s, int c, int fd, int port)
{
	struct sockaddr_in name;
	socklen_t length = sizeof name;
	CHECK(getsockname(s, (struct sockaddr *)&name, &length) == 0 && length == sizeof name);
	CHECK(name.sin_addr.s_addr == INADDR_ANY && name.sin_port == htons((uint16_t)port));
	CHECK(getsockname(fd, (struct sockaddr *)&name, &length) == 0);
	CHECK(name.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && name.sin_port == htons((uint16_t)port));
	CHECK(getpeername(c, (struct sockaddr *)&name, &length) == 0);
	CHECK(name.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && name.sin_port == htons((uint16_t)port));
	CHECK(getpeername(fd, (struct sockaddr *)&name, &length) == 0);
	CHECK(name.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && name.sin_port != 0);
	FAILS(getpeername(s, (struct sockaddr *)&name, &length), ENOTCONN);
	length = 2;
	CHECK(getpeername(c, (struct sockaddr *)&name, &length) == 0 && length == sizeof name);
	FAILS(getpeername(c, (struct sockaddr *)&name, NULL), EFAULT);
}

static void options(int s, int c)
{
	int on = 1;
	CHECK(word(s, SOL_SOCKET, SO_ACCEPTCONN) == 1 && word(c, SOL_SOCKET, SO_ACCEPTCONN) == 0);
	CHECK(word(s, SOL_SOCKET, SO_REUSEADDR) == 1 && word(c, SOL_SOCKET, SO_REUSEADDR) == 0);
	CHECK(word(c, SOL_SOCKET, SO_TYPE) == SOCK_STREAM);
	CHECK(word(c, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP);
	CHECK(word(c, SOL_SOCKET, SO_ERROR) == 0);
	CHECK(word(c, IPPROTO_TCP, TCP_NODELAY) == 0);
	CHECK(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
	CHECK(word(c, IPPROTO_TCP, TCP_NODELAY) == 1);
	FAILS(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, 1), EINVAL);
	FAILS(setsockopt(c, IPPROTO_TCP, 999, &on, sizeof on), ENOPROTOOPT);
}

/* Many ways to write, and to read. */
static void bytes_in_pieces(int c, int fd)
{
	struct iovec parts[2];
	struct msghdr message;
	struct sockaddr_in name;
	socklen_t length = sizeof name;
	CHECK(send(fd, "0123456789", 10, 0) == 10);
	CHECK(recv(c, got, 4, MSG_PEEK) == 4 && memcmp(got, "0123", 4) == 0);
	CHECK(recv(c, got, 4, 0) == 4 && memcmp(got, "0123", 4) == 0);
	CHECK(is_readable(c, 0));
	CHECK(read(c, got, 3) == 3 && memcmp(got, "456", 3) == 0);
	CHECK(recvfrom(c, got, 9, 0, (struct sockaddr *)&name, &length) == 3);
	CHECK(memcmp(got, "789", 3) == 0 && name.sin_port == htons(6000));
	CHECK(!is_readable(c, 50) && received(c) == 1);
	FAILS(recv(c, got, 9, MSG_DONTWAIT), EAGAIN);
	CHECK(recv(c, got, 0, 0) == 0);

	CHECK(write(fd, bytes, sizeof bytes) == sizeof bytes);
	CHECK(recv(c, got, sizeof bytes, MSG_WAITALL) == sizeof bytes);
	CHECK(memcmp(got, bytes, sizeof bytes) == 0 && received(c) == 1 + 4);

	memset(&message, 0, sizeof message);
	parts[0].iov_base = bytes;
	parts[0].iov_len = 3;
	parts[1].iov_base = bytes + 1000;
	parts[1].iov_len = 4;
	CHECK(writev(fd, parts, 2) == 7);
	message.msg_iov = parts;
	message.msg_iovlen = 2;
	CHECK(sendmsg(fd, &message, MSG_NOSIGNAL) == 7 && sendto(fd, "xyz", 3, 0, NULL, 0) == 3);
	CHECK(is_readable(c, 5000));
	parts[0].iov_base = got;
	parts[1].iov_base = got + 10;
	CHECK(readv(c, parts, 2) == 7 && memcmp(got + 10, bytes + 1000, 4) == 0);
	CHECK(recvmsg(c, &message, 0) == 7 && message.msg_flags == 0);
	CHECK(recv(c, got, 9, 0) == 3 && memcmp(got, "xyz", 3) == 0);
}

static void no_way_back(int s, int c, int fd)
{
	struct sockaddr_in name = v4(INADDR_LOOPBACK, 6000);
	FAILS(send(c, "?", 1, 0), EOPNOTSUPP);
	FAILS(write(c, "?", 1), EOPNOTSUPP);
	FAILS(recv(fd, got, 1, 0), EOPNOTSUPP);
	FAILS(recv(fd, got, 1, MSG_DONTWAIT), EAGAIN);
	FAILS(send(fd, "!", 1, MSG_OOB), EOPNOTSUPP);
	FAILS(recv(c, got, 1, MSG_OOB), EOPNOTSUPP);
	FAILS(connect(c, (struct sockaddr *)&name, sizeof name), EISCONN);
	FAILS(connect(s, (struct sockaddr *)&name, sizeof name), EISCONN);
	FAILS(recv(s, got, 1, 0), ENOTCONN);
	FAILS(send(s, "!", 1, 0), ENOTCONN);
	FAILS(accept(c, NULL, NULL), EINVAL);
	FAILS(send(fd, NULL, 1, 0), EFAULT);
	FAILS(shutdown(c, 9), EINVAL);
}

/* A server with a process for each client: the child sends; to accept is the parent's. */
static void forked(int s, int c, int fd)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		FAILS(accept(s, NULL, NULL), EOPNOTSUPP);
		_exit(send(fd, "of a child", 10, 0) != 10 || close(fd) != 0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(recv(c, got, 10, MSG_WAITALL) == 10 && memcmp(got, "of a child", 10) == 0);
}

/* As such servers do: the child closes what it was made from, the parent what it gave. */
static void a_process_each(void)
{
	int s = server(SOCK_STREAM, 6007);
	for (int n = 0; n < 2; n++) {
		int status, c = client(SOCK_STREAM, 6007), fd = accept(s, NULL, NULL);
		pid_t pid;
		CHECK(fd >= 0 && (pid = fork()) >= 0);
		if (pid == 0)
			_exit(close(s) != 0 || send(fd, bytes, sizeof bytes, 0) != sizeof bytes);
		CHECK(close(fd) == 0);
		CHECK(recv(c, got, sizeof got, MSG_WAITALL) == sizeof bytes);
		CHECK(memcmp(got, bytes, sizeof bytes) == 0 && recv(c, got, 1, 0) == 0);
		CHECK(waitpid(pid, &status, 0) == pid && status == 0 && close(c) == 0);
	}
	CHECK(close(s) == 0);
}

static void stream(void)
{
	struct sockaddr_in from;
	socklen_t length = sizeof from;
	int s = server(SOCK_STREAM, 6000), c = client(SOCK_STREAM, 6000), second, fd, copy;
	CHECK((fd = accept(s, (struct sockaddr *)&from, &length)) >= 0);
	CHECK(from.sin_family == AF_INET && from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	names(s, c, fd, 6000);
	options(s, c);
	bytes_in_pieces(c, fd);
	no_way_back(s, c, fd);
	forked(s, c, fd);

	/* A second receiver joins in silence; a duplicate receives on. */
	CHECK((copy = dup(c)) >= 0 && close(c) == 0);
	second = client(SOCK_STREAM, 6000);
	for (int n = 0; recv(second, got, 1, MSG_DONTWAIT) != 1; n++) {
		CHECK(n < 500 && send(fd, "?", 1, 0) == 1);
		usleep(10000);
	}
	CHECK(close(second) == 0);
	while (is_readable(copy, 100))
		CHECK(recv(copy, got, sizeof got, 0) > 0);
	CHECK(shutdown(copy, SHUT_WR) == 0);
	CHECK(send(fd, "on", 2, 0) == 2 && recv(copy, got, 9, 0) == 2);

	/* Nobody is left: told by poll, recv and send. */
	CHECK(close(copy) == 0);
	CHECK(is_readable(fd, 5000) && recv(fd, got, 1, 0) == 0 && recv(fd, got, 1, 0) == 0);
	FAILS(send(fd, "?", 1, 0), EPIPE);
	CHECK(close(fd) == 0);

	/* The next audience, and the end of its stream, which stays. */
	c = client(SOCK_STREAM, 6000);
	CHECK((fd = accept(s, NULL, NULL)) >= 0);
	CHECK(send(fd, "last", 4, 0) == 4 && close(fd) == 0);
	CHECK(recv(c, got, 9, 0) == 4);
	for (int n = 0; n < 3; n++)
		CHECK(is_readable(c, 5000) && recv(c, got, 9, 0) == 0);
	CHECK(close(c) == 0);
	CHECK(shutdown(s, SHUT_RDWR) == 0);
	FAILS(accept(s, NULL, NULL), EINVAL);
	CHECK(close(s) == 0);
	FAILS(close(s), EBADF);
}

static void flags(void)
{
	struct timeval limit, read_back;
	socklen_t length = sizeof read_back;
	struct sockaddr_in name = v4(INADDR_LOOPBACK, 6001), bound = v4(INADDR_LOOPBACK, 0);
	int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	int s = server(SOCK_STREAM | SOCK_NONBLOCK, 6001);
	limit.tv_sec = 0;
	limit.tv_usec = 48000;
	CHECK(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
	CHECK(bind(c, (struct sockaddr *)&bound, sizeof bound) == 0);
	CHECK(fcntl(c, F_GETFD) == FD_CLOEXEC && fcntl(s, F_GETFD) == 0);
	FAILS(accept(s, NULL, NULL), EAGAIN);
	CHECK(connect(c, (struct sockaddr *)&name, sizeof name) == 0);
	CHECK(fcntl(c, F_GETFD) == FD_CLOEXEC && !(fcntl(c, F_GETFL) & O_NONBLOCK));
	CHECK(getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &read_back, &length) == 0);
	CHECK(read_back.tv_usec == 48000);
	length = sizeof bound;
	CHECK(getsockname(c, (struct sockaddr *)&bound, &length) == 0);
	CHECK(bound.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	CHECK(is_readable(s, 5000) && (fd = accept4(s, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
	CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & O_NONBLOCK));
	FAILS(recv(fd, got, 1, 0), EAGAIN);
	FAILS(recv(c, got, 1, 0), EAGAIN);
	FAILS(accept4(s, NULL, NULL, 1), EINVAL);
	CHECK(close(c) == 0 && close(fd) == 0 && close(s) == 0);
}

static void datagrams(void)
{
	int s = server(SOCK_DGRAM, 6002), c = client(SOCK_DGRAM, 6002), fd = accept(s, NULL, NULL);
	CHECK(fd >= 0 && word(c, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM);
	CHECK(send(fd, "0123456789", 10, 0) == 10 && send(fd, bytes, sizeof bytes, 0) == sizeof bytes);
	CHECK(recv(c, got, 4, MSG_TRUNC) == 10 && memcmp(got, "0123", 4) == 0);
	CHECK(recv(c, got, sizeof got, 0) == sizeof bytes && memcmp(got, bytes, sizeof bytes) == 0);
	FAILS(send(c, "?", 1, 0), EOPNOTSUPP);
	FAILS(recv(fd, got, 1, 0), EOPNOTSUPP);
	CHECK(close(fd) == 0 && recv(c, got, 4, 0) == 0);
	CHECK(close(c) == 0 && close(s) == 0);
}

static void refused(void)
{
	struct sockaddr_in name = v4(INADDR_LOOPBACK, 6050), same = v4(INADDR_ANY, 6003);
	int s, c = socket(AF_INET, SOCK_STREAM, 0), other = socket(AF_INET, SOCK_STREAM, 0);
	FAILS(connect(c, (struct sockaddr *)&name, sizeof name), EOPNOTSUPP);
	CHECK(close(c) == 0);
	s = server(SOCK_STREAM, 6003);
	CHECK(bind(other, (struct sockaddr *)&same, sizeof same) == 0);
	FAILS(listen(other, 5), EADDRINUSE);
	CHECK(close(other) == 0 && close(s) == 0);
}

static void ipv6(void)
{
	struct in6_addr any = IN6ADDR_ANY_INIT, loopback = IN6ADDR_LOOPBACK_INIT;
	struct sockaddr_in6 at = v6(any, 6004), to = v6(loopback, 6004), from;
	socklen_t length = sizeof from;
	int s = socket(AF_INET6, SOCK_STREAM, 0), c = socket(AF_INET6, SOCK_STREAM, 0), fd;
	CHECK(bind(s, (struct sockaddr *)&at, sizeof at) == 0 && listen(s, 5) == 0);
	CHECK(connect(c, (struct sockaddr *)&to, sizeof to) == 0);
	CHECK((fd = accept(s, (struct sockaddr *)&from, &length)) >= 0 && length == sizeof from);
	CHECK(memcmp(&from.sin6_addr, &loopback, sizeof loopback) == 0);
	CHECK(send(fd, "six", 3, 0) == 3 && recv(c, got, 9, 0) == 3);
	CHECK(close(fd) == 0 && close(c) == 0);
	/* The same server speaks IPv4, and shows it as an IPv6 socket has it. */
	c = client(SOCK_STREAM, 6004);
	CHECK((fd = accept(s, (struct sockaddr *)&from, &length)) >= 0);
	CHECK(IN6_IS_ADDR_V4MAPPED(&from.sin6_addr));
	CHECK(close(fd) == 0 && close(c) == 0 && close(s) == 0);
}

static int no(const struct flexcast_request *request, void *argument)
{
	return request == argument;
}

/* By a server of the library's own, which has the means to say so. */
static void refused_for_good(void)
{
	struct flexcast_channel channel;
	struct flexcast_on_request decides;
	int c, s = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	channel.ip = INADDR_ANY;
	channel.id = 6005;
	decides.callback = no;
	decides.argument = NULL;
	CHECK(flexcast_bind(s, &channel, sizeof channel) == 0);
	CHECK(flexcast_setsockopt(s, SOL_FLEXCAST, FLEXCAST_ON_REQUEST, &decides, sizeof decides) == 0);
	CHECK(flexcast_listen(s, 5) == 0);
	c = client(SOCK_STREAM, 6005);
	FAILS(recv(c, got, 1, 0), ECONNREFUSED);
	CHECK(close(c) == 0 && flexcast_close(s) == 0);
}

static void serve(int port)
{
	int s = server(SOCK_STREAM, port), fd = accept(s, NULL, NULL);
	alarm(20);
	for (;;) {
		CHECK(fd >= 0 && send(fd, "a", 1, 0) == 1);
		usleep(20000);
	}
}

/* A server that is killed, and another one in its place: no stream goes on in the other. */
static void started_anew(char *self)
{
	char mode[] = "serve", port[] = "6006";
	char *arguments[] = { self, mode, port, NULL };
	int c = client(SOCK_STREAM, 6006);
	for (int n = 0; n < 2; n++) {
		pid_t pid;
		CHECK(posix_spawn(&pid, self, NULL, NULL, arguments, environ) == 0);
		if (n == 0) {
			CHECK(recv(c, got, 1, 0) == 1);
		} else {
			while (recv(c, got, 1, 0) == 1)
				;
			FAILS(recv(c, got, 1, 0), ECONNRESET);
		}
		CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
	}
	CHECK(is_readable(c, 0) && close(c) == 0);
}

static void *waits(void *listener)
{
	accept(*(int *)listener, NULL, NULL);
	return NULL;
}

/* The system's own: both ways, on a port that no rule takes. */
static void plain(int port)
{
	int ends[2], s = server(SOCK_STREAM, port), c = client(SOCK_STREAM, port);
	int fd = accept(s, NULL, NULL);
	pthread_t thread;
	void *outcome;
	CHECK(fd >= 0);
	/* It still is a cancellation point. */
	CHECK(pthread_create(&thread, NULL, waits, &s) == 0 && pthread_cancel(thread) == 0);
	CHECK(pthread_join(thread, &outcome) == 0 && outcome == PTHREAD_CANCELED);
	CHECK(send(c, "ask", 3, 0) == 3 && recv(fd, got, 9, 0) == 3);
	CHECK(write(fd, "answer", 6) == 6 && read(c, got, 9) == 6);
	CHECK(word(c, IPPROTO_TCP, TCP_MAXSEG) > 0);
	CHECK(shutdown(c, SHUT_WR) == 0 && recv(fd, got, 9, 0) == 0);
	CHECK(close(c) == 0 && close(fd) == 0 && close(s) == 0);
	CHECK(pipe(ends) == 0 && write(ends[1], "pipe", 4) == 4 && read(ends[0], got, 9) == 4);
	CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
	FAILS(close(ends[0]), EBADF);
	FAILS(connect(-1, NULL, 0), EBADF);
}

int main(int argc, char **argv)
{
	for (size_t n = 0; n < sizeof bytes; n++)
		bytes[n] = (char)(n * 31 / 7);
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		serve(atoi(argv[2]));
	plain(7000);
	if (argc < 2 || strcmp(argv[1], "plain") != 0) {
		const char *rules = getenv("FLEXCAST_MAP");
		CHECK(rules == NULL || strcmp(rules, RULES) == 0);
		started_anew(argv[0]);
		stream();
		a_process_each();
		flags();
		datagrams();
		refused();
		refused_for_good();
		ipv6();
		plain(6051);
	}
	plain(7000);
	puts("compat: all right");
	return 0;
}
