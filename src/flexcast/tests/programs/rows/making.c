/* socket, bind, listen, accept, connect. */
#include <net/if.h>
#include <linux/capability.h>

CASE(socket, descriptor, descriptor)
{
	int next = dup(0);
	close(next);
	GIVES(flexcast_socket(AF_INET, SOCK_DGRAM, 0), next);
	GIVES(flexcast_socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP), next + 1);
}
CASE(socket, EAFNOSUPPORT, domain)
{
	FAILS(flexcast_socket(AF_UNIX, SOCK_DGRAM, 0), EAFNOSUPPORT);
}
CASE(socket, EPROTONOSUPPORT, type)
{
	FAILS(flexcast_socket(AF_INET, SOCK_STREAM, 0), EPROTONOSUPPORT);
}
CASE(socket, EPROTONOSUPPORT, protocol)
{
	FAILS(flexcast_socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
}
CASE(socket, EMFILE, table)
{
	fill_table();
	FAILS(flexcast_socket(AF_INET, SOCK_DGRAM, 0), EMFILE);
}
CASE(socket, ENFILE, system)
{
	deny_sockets(ENFILE);
	FAILS(flexcast_socket(AF_INET, SOCK_DGRAM, 0), ENFILE);
}
CASE(socket, ENOMEM, memory)
{
	deny_sockets(ENOMEM);
	FAILS(flexcast_socket(AF_INET, SOCK_DGRAM, 0), ENOMEM);
}

CASE(bind, 0, done)
{
	struct flexcast_channel c = loopback(0);
	int fd = plain();
	GIVES(flexcast_bind(fd, &c, sizeof c), 0);
}
CASE(bind, EFAULT, channel)
{
	FAILS(flexcast_bind(plain(), NULL, sizeof(struct flexcast_channel)), EFAULT);
}
CASE(bind, EINVAL, length)
{
	struct flexcast_channel6 c = { IN6ADDR_ANY_INIT, 0 };
	for (socklen_t length = 0; length < sizeof c; length++)
		if (length != sizeof(struct flexcast_channel))
			FAILS(flexcast_bind(plain(), &c, length), EINVAL);
}
CASE(bind, EINVAL, again)
{
	struct flexcast_channel c = loopback(1);
	FAILS(flexcast_bind(bound(1), &c, sizeof c), EINVAL);
	FAILS(flexcast_bind(receiver(1), &c, sizeof c), EINVAL);
	FAILS(flexcast_bind(pair().sends, &c, sizeof c), EINVAL);
}
CASE(bind, EAFNOSUPPORT, family)
{
	struct flexcast_channel6 c = { IN6ADDR_LOOPBACK_INIT, 1 };
	FAILS(flexcast_bind(plain(), &c, sizeof c), EAFNOSUPPORT);
}
CASE(bind, EADDRNOTAVAIL, address)
{
	struct flexcast_channel c = { htonl(0x0a090807), 1 };
	FAILS(flexcast_bind(plain(), &c, sizeof c), EADDRNOTAVAIL);
}

CASE(bind, EMFILE, table)
{
	struct flexcast_channel c = loopback(1);
	int fd = plain();
	fill_table();
	FAILS(flexcast_bind(fd, &c, sizeof c), EMFILE);
}

CASE(listen, 0, done)
{
	int fd = bound(1);
	GIVES(flexcast_listen(fd, 1), 0);
}
CASE(listen, 0, again)
{
	int fd = bound(1);
	GIVES(flexcast_listen(fd, -1), 0);
	GIVES(flexcast_listen(fd, 1 << 30), 0);
}
CASE(listen, EDESTADDRREQ, unbound)
{
	FAILS(flexcast_listen(plain(), 1), EDESTADDRREQ);
}
CASE(listen, EINVAL, role)
{
	FAILS(flexcast_listen(receiver(1), 1), EINVAL);
	FAILS(flexcast_listen(pair().sends, 1), EINVAL);
}
CASE(listen, EINVAL, environment)
{
	CHECK(setenv("FLEXCAST_PORT", "65536", 1) == 0);
	FAILS(flexcast_listen(bound(1), 1), EINVAL);
}
CASE(listen, EADDRINUSE, id)
{
	listener(1, 0);
	listener(0, 0);
	FAILS(flexcast_listen(bound(1), 1), EADDRINUSE);
	FAILS(flexcast_listen(bound(0), 1), EADDRINUSE);
	IN_CHILD(FAILS(flexcast_listen(bound(1), 1), EADDRINUSE));
}
CASE(listen, EADDRINUSE, port)
{
	struct sockaddr_in port = { .sin_family = AF_INET, .sin_port = htons(7450) };
	int stranger = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(bind(stranger, (struct sockaddr *)&port, sizeof port) == 0);
	FAILS(flexcast_listen(bound(1), 1), EADDRINUSE);
	CHECK(strstr(flexcast_strerror(EADDRINUSE), "UDP port 7450") != NULL);
	CHECK(strstr(flexcast_strerror(EADDRINUSE), "(rows)") != NULL);
}
CASE(listen, EACCES, port)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { { 0, 0, 0 }, { 0, 0, 0 } };
	CHECK(syscall(SYS_capset, &header, none) == 0);
	CHECK(setenv("FLEXCAST_PORT", "81", 1) == 0);
	FAILS(flexcast_listen(bound(1), 1), EACCES);
}
CASE(listen, EMFILE, table)
{
	int fd = bound(1);
	fill_table();
	FAILS(flexcast_listen(fd, 1), EMFILE);
}
CASE(listen, EOPNOTSUPP, fork)
{
	int fd = listener(1, 0);
	IN_CHILD(FAILS(flexcast_listen(fd, 1), EOPNOTSUPP));
}
CASE(listen, EAGAIN, thread)
{
	int fd = bound(1);
	deny_threads();
	FAILS(flexcast_listen(fd, 1), EAGAIN);
}

CASE(listen, ETIMEDOUT, stopped)
{
	listener(1, 0);
	int fd = bound(2);
	stop_thread("flexcast-send\n");
	FAILS(flexcast_listen(fd, 1), ETIMEDOUT);
}

CASE(accept, descriptor, descriptor)
{
	struct flexcast_channel c = { 0, 0 };
	socklen_t length = sizeof c;
	int fd = listener(0, 0);
	receiver(9);
	int next = dup(0);
	close(next);
	GIVES(flexcast_accept(fd, &c, &length), next);
	CHECK(c.id == 9 && c.ip == htonl(INADDR_LOOPBACK) && length == sizeof c);
}
CASE(accept, EINVAL, role)
{
	FAILS(flexcast_accept(plain(), NULL, NULL), EINVAL);
	FAILS(flexcast_accept(bound(1), NULL, NULL), EINVAL);
	FAILS(flexcast_accept(receiver(1), NULL, NULL), EINVAL);
}
CASE(accept, EINVAL, length)
{
	struct flexcast_channel c;
	socklen_t length = sizeof c - 1;
	FAILS(flexcast_accept(listener(1, 0), &c, &length), EINVAL);
}
CASE(accept, EINVAL, shutdown)
{
	int fd = listener(1, 0);
	CHECK(shutdown(fd, SHUT_RD) == 0);
	FAILS(flexcast_accept(fd, NULL, NULL), EINVAL);
}
CASE(accept, EFAULT, length)
{
	struct flexcast_channel c;
	FAILS(flexcast_accept(listener(1, 0), &c, NULL), EFAULT);
}
CASE(accept, EAGAIN, nonblocking)
{
	FAILS(flexcast_accept(listener(1, SOCK_NONBLOCK), NULL, NULL), EAGAIN);
}
CASE(accept, EAGAIN, timeout)
{
	int fd = listener(1, 0);
	limit(fd, 30);
	FAILS(flexcast_accept(fd, NULL, NULL), EAGAIN);
}
CASE(accept, EINTR, signal)
{
	int fd = listener(1, 0);
	expect_signal();
	FAILS(flexcast_accept(fd, NULL, NULL), EINTR);
	limit(fd, 0);
	FAILS(flexcast_accept(fd, NULL, NULL), EINTR);
}
static int asked(void)
{
	int fd = listener(7, 0);
	receiver(7);
	CHECK(is_readable(fd, 5000));
	return fd;
}
CASE(accept, EMFILE, table)
{
	int fd = asked();
	fill_table();
	FAILS(flexcast_accept(fd, NULL, NULL), EMFILE);
	close(0);
	GIVES(flexcast_accept(fd, NULL, NULL), 0);
}
CASE(accept, ENFILE, system)
{
	int fd = asked();
	deny_sockets(ENFILE);
	FAILS(flexcast_accept(fd, NULL, NULL), ENFILE);
}
CASE(accept, ENOMEM, memory)
{
	int fd = asked();
	deny_sockets(ENOMEM);
	FAILS(flexcast_accept(fd, NULL, NULL), ENOMEM);
}
CASE(accept, EOPNOTSUPP, fork)
{
	int fd = listener(1, 0);
	IN_CHILD(FAILS(flexcast_accept(fd, NULL, NULL), EOPNOTSUPP));
}

CASE(accept, ETIMEDOUT, stopped)
{
	int fd = asked();
	stop_thread("flexcast-send\n");
	FAILS(flexcast_accept(fd, NULL, NULL), ETIMEDOUT);
}

static int connect_to(int fd, in_addr_t ip, uint64_t id)
{
	struct flexcast_channel c = { ip, id };
	return flexcast_connect(fd, &c, sizeof c);
}
CASE(connect, 0, done)
{
	/* Nobody is there, nor a way to it. */
	int fd = plain();
	GIVES(connect_to(fd, htonl(0x0a090807), 1), 0);
}
CASE(connect, EFAULT, channel)
{
	FAILS(flexcast_connect(plain(), NULL, sizeof(struct flexcast_channel)), EFAULT);
}
CASE(connect, EINVAL, length)
{
	struct flexcast_channel c = loopback(1);
	FAILS(flexcast_connect(plain(), &c, sizeof c - 1), EINVAL);
	FAILS(flexcast_connect(plain(), &c, 0), EINVAL);
}
CASE(connect, EINVAL, id)
{
	FAILS(connect_to(plain(), htonl(INADDR_LOOPBACK), 0), EINVAL);
}
CASE(connect, EINVAL, host)
{
	FAILS(connect_to(plain(), INADDR_ANY, 1), EINVAL);
	FAILS(connect_to(plain(), htonl(0xef010101), 1), EINVAL);
}
CASE(connect, EINVAL, environment)
{
	CHECK(setenv("FLEXCAST_PORT", "0", 1) == 0);
	FAILS(connect_to(plain(), htonl(INADDR_LOOPBACK), 1), EINVAL);
	CHECK(unsetenv("FLEXCAST_PORT") == 0 && setenv("FLEXCAST_PATH", "any", 1) == 0);
	FAILS(connect_to(plain(), htonl(INADDR_LOOPBACK), 1), EINVAL);
}
CASE(connect, EAFNOSUPPORT, family)
{
	struct flexcast_channel6 c = { IN6ADDR_LOOPBACK_INIT, 1 };
	FAILS(flexcast_connect(plain(), &c, sizeof c), EAFNOSUPPORT);
}
CASE(connect, EISCONN, again)
{
	FAILS(connect_to(receiver(1), htonl(INADDR_LOOPBACK), 1), EISCONN);
	FAILS(connect_to(pair().sends, htonl(INADDR_LOOPBACK), 1), EISCONN);
}
CASE(connect, EOPNOTSUPP, bound)
{
	FAILS(connect_to(bound(1), htonl(INADDR_LOOPBACK), 1), EOPNOTSUPP);
	FAILS(connect_to(listener(1, 0), htonl(INADDR_LOOPBACK), 1), EOPNOTSUPP);
}
CASE(connect, EOPNOTSUPP, device)
{
	int fd = plain();
	CHECK(setenv("FLEXCAST_PATH", "user", 1) == 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2) == 0);
	FAILS(connect_to(fd, htonl(INADDR_LOOPBACK), 1), EOPNOTSUPP);
}
CASE(connect, EOPNOTSUPP, path)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, 65535);
	struct sock_fprog program = { 1, &all };
	int fd = plain();
	CHECK(setenv("FLEXCAST_PATH", "kernel", 1) == 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
	FAILS(connect_to(fd, htonl(INADDR_LOOPBACK), 1), EOPNOTSUPP);
}
CASE(connect, EMFILE, table)
{
	int fd = plain();
	receiver(1);
	fill_table();
	FAILS(connect_to(fd, htonl(INADDR_LOOPBACK), 1), EMFILE);
}
CASE(connect, EAGAIN, thread)
{
	int fd = plain();
	deny_threads();
	FAILS(connect_to(fd, htonl(INADDR_LOOPBACK), 1), EAGAIN);
}
CASE(connect, ETIMEDOUT, stopped)
{
	int fd = plain();
	receiver(1);
	stop_thread("flexcast-recv\n");
	FAILS(connect_to(fd, htonl(INADDR_LOOPBACK), 1), ETIMEDOUT);
}
