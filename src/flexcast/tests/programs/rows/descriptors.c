/* What each call says of a number that is no UDP socket's. */

static int no_descriptor(void)
{
	int fd = plain();
	CHECK(flexcast_close(fd) == 0);
	return fd;
}

static int no_socket(void)
{
	return open("/dev/null", O_RDWR);
}

static int no_udp(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static struct flexcast_channel here;
static socklen_t room = sizeof here;
static int option;
static char byte;
static struct mmsghdr message;

#define NUMBERS(call, ...)                                                         \
	CASE(call, EBADF, fd)                                                      \
	{                                                                          \
		int fd = no_descriptor();                                          \
		FAILS(flexcast_##call(__VA_ARGS__), EBADF);                        \
		fd = -1;                                                           \
		FAILS(flexcast_##call(__VA_ARGS__), EBADF);                        \
	}                                                                          \
	CASE(call, ENOTSOCK, fd)                                                   \
	{                                                                          \
		int fd = no_socket();                                              \
		FAILS(flexcast_##call(__VA_ARGS__), ENOTSOCK);                     \
		CHECK(fcntl(fd, F_GETFD) == 0);                                    \
	}
#define SOCKETS(call, ...)                                                         \
	NUMBERS(call, __VA_ARGS__)                                                 \
	CASE(call, EPROTOTYPE, fd)                                                 \
	{                                                                          \
		int fd = no_udp();                                                 \
		FAILS(flexcast_##call(__VA_ARGS__), EPROTOTYPE);                   \
	}

SOCKETS(connect, fd, &here, sizeof here)
SOCKETS(bind, fd, &here, sizeof here)
SOCKETS(listen, fd, 1)
SOCKETS(accept, fd, &here, &room)
SOCKETS(send, fd, &byte, 1)
SOCKETS(sendmmsg, fd, &message, 1, 0)
SOCKETS(recv, fd, &byte, 1)
SOCKETS(recvmmsg, fd, &message, 1, 0, NULL)
SOCKETS(getsockname, fd, &here, &room)
SOCKETS(getpeername, fd, &here, &room)
SOCKETS(setsockopt, fd, SOL_FLEXCAST, FLEXCAST_STRICT, &option, sizeof option)
SOCKETS(getsockopt, fd, SOL_FLEXCAST, FLEXCAST_STRICT, &option, &room)
SOCKETS(shutdown, fd, SHUT_RDWR)
NUMBERS(close, fd)
