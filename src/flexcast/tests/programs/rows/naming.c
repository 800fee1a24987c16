/* getsockname, getpeername, shutdown, close, strerror. */

#define NAMES(call, named)                                                         \
	CASE(call, 0, done)                                                        \
	{                                                                          \
		struct flexcast_channel c = { 0, 0 };                              \
		socklen_t length = 100;                                            \
		int fd = named;                                                    \
		GIVES(flexcast_##call(fd, &c, &length), 0);                        \
		CHECK(c.ip == htonl(INADDR_LOOPBACK) && c.id == 7);                \
		CHECK(length == sizeof c);                                         \
	}                                                                          \
	CASE(call, EFAULT, channel)                                                \
	{                                                                          \
		socklen_t length = sizeof(struct flexcast_channel);                \
		FAILS(flexcast_##call(plain(), NULL, &length), EFAULT);            \
	}                                                                          \
	CASE(call, EFAULT, length)                                                 \
	{                                                                          \
		struct flexcast_channel c;                                         \
		FAILS(flexcast_##call(plain(), &c, NULL), EFAULT);                 \
	}                                                                          \
	CASE(call, EINVAL, length)                                                 \
	{                                                                          \
		struct flexcast_channel6 c;                                        \
		socklen_t length = sizeof(struct flexcast_channel) - 1;            \
		FAILS(flexcast_##call(plain(), &c, &length), EINVAL);              \
		length = sizeof c - 1;                                             \
		int six = flexcast_socket(AF_INET6, SOCK_DGRAM, 0);                \
		FAILS(flexcast_##call(six, &c, &length), EINVAL);                  \
	}
NAMES(getsockname, pair().sends)
NAMES(getpeername, receiver(7))
CASE(getpeername, ENOTCONN, role)
{
	struct flexcast_channel c;
	socklen_t length = sizeof c;
	FAILS(flexcast_getpeername(bound(1), &c, &length), ENOTCONN);
	FAILS(flexcast_getpeername(listener(1, 0), &c, &length), ENOTCONN);
}

CASE(shutdown, 0, done)
{
	char b[8];
	struct pair p = pair();
	GIVES(flexcast_shutdown(p.sends, SHUT_WR), 0);
	CHECK(flexcast_recv(p.receives, b, sizeof b) == 0);
	GIVES(flexcast_shutdown(p.receives, SHUT_RDWR), 0);
}
CASE(shutdown, 0, again)
{
	struct pair p = pair();
	for (int n = 0; n < 2; n++) {
		GIVES(flexcast_shutdown(p.sends, SHUT_RDWR), 0);
		GIVES(flexcast_shutdown(p.receives, SHUT_RD), 0);
		GIVES(flexcast_shutdown(p.receives, SHUT_WR), 0);
	}
}
CASE(shutdown, EINVAL, how)
{
	FAILS(flexcast_shutdown(receiver(1), 3), EINVAL);
}
CASE(shutdown, ENOTCONN, role)
{
	FAILS(flexcast_shutdown(plain(), SHUT_RDWR), ENOTCONN);
	FAILS(flexcast_shutdown(listener(1, 0), SHUT_RDWR), ENOTCONN);
}

CASE(shutdown, ETIMEDOUT, stopped)
{
	int fd = receiver(1);
	stop_thread("flexcast-recv\n");
	FAILS(flexcast_shutdown(fd, SHUT_RD), ETIMEDOUT);
}

CASE(close, 0, done)
{
	struct pair p = pair();
	GIVES(flexcast_close(p.receives), 0);
	GIVES(flexcast_close(p.sends), 0);
	GIVES(flexcast_close(p.listens), 0);
	CHECK(fcntl(p.listens, F_GETFD) == -1);
}

CASE(strerror, text, detail)
{
	listener(1, 0);
	FAILS(flexcast_listen(bound(1), 1), EADDRINUSE);
	CHECK(strstr(flexcast_strerror(EADDRINUSE), "listening: ") != NULL);
}
CASE(strerror, text, plain)
{
	CHECK(strstr(flexcast_strerror(ENOTCONN), "ENOTCONN: ") != NULL);
	CHECK(strlen(flexcast_strerror(-1)) > 0 && strlen(flexcast_strerror(1 << 30)) > 0);
}
