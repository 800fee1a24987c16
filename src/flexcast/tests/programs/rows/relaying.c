/* What a relay's two halves add to other calls. Requests for 10.77.0.0/24 are kept on this
   host by a route, which stands for the rule that would hand them over. */
#include <linux/capability.h>

static struct flexcast_channel elsewhere(uint64_t id)
{
	struct flexcast_channel c = { htonl(0x0a4d0001), id };
	return c;
}

static int transparent(void)
{
	int fd = plain(), on = 1;
	CHECK(set(fd, FLEXCAST_TRANSPARENT, &on, sizeof on) == 0);
	return fd;
}

static int transparent_bound(void)
{
	struct flexcast_channel any = { INADDR_ANY, 0 };
	int fd = transparent();
	CHECK(flexcast_bind(fd, &any, sizeof any) == 0);
	return fd;
}

/* Another host's channel, that somebody asks for here. */
static int passing(void)
{
	struct flexcast_channel c = elsewhere(7);
	int listens = transparent_bound(), asks = plain();
	CHECK(system("ip route replace local 10.77.0.0/24 dev lo") == 0);
	CHECK(flexcast_listen(listens, 1) == 0);
	CHECK(flexcast_connect(asks, &c, sizeof c) == 0);
	limit(listens, 5000);
	int fd = flexcast_accept(listens, NULL, NULL);
	CHECK(fd >= 0);
	limit(fd, 5000);
	return fd;
}

/* A socket that is to ask in its stead. */
static int upstream(int accepted)
{
	int fd = plain();
	CHECK(set(fd, FLEXCAST_DOWNSTREAM, &accepted, sizeof accepted) == 0);
	return fd;
}

static int connect_up(int fd, uint64_t id)
{
	struct flexcast_channel c = elsewhere(id);
	return flexcast_connect(fd, &c, sizeof c);
}

CASE(setsockopt, EINVAL, bound)
{
	int on = 1;
	FAILS(set(bound(1), FLEXCAST_TRANSPARENT, &on, sizeof on), EINVAL);
}
CASE(setsockopt, EINVAL, downstream)
{
	int accepted = pair().sends;
	FAILS(set(plain(), FLEXCAST_DOWNSTREAM, &accepted, sizeof accepted), EINVAL);
}
CASE(setsockopt, ENOTCONN, downstream)
{
	int other = listener(1, 0);
	FAILS(set(plain(), FLEXCAST_DOWNSTREAM, &other, sizeof other), ENOTCONN);
}
CASE(setsockopt, EOPNOTSUPP, bound)
{
	int accepted = passing();
	FAILS(set(bound(1), FLEXCAST_DOWNSTREAM, &accepted, sizeof accepted), EOPNOTSUPP);
}
CASE(setsockopt, EOPNOTSUPP, fork)
{
	int accepted = passing();
	IN_CHILD(FAILS(set(plain(), FLEXCAST_DOWNSTREAM, &accepted, sizeof accepted), EOPNOTSUPP));
}

CASE(bind, EADDRNOTAVAIL, transparent)
{
	struct flexcast_channel c = loopback(1);
	FAILS(flexcast_bind(transparent(), &c, sizeof c), EADDRNOTAVAIL);
}
CASE(bind, EINVAL, host)
{
	struct flexcast_channel c = { htonl(0xef010101), 1 };
	FAILS(flexcast_bind(transparent(), &c, sizeof c), EINVAL);
}

CASE(listen, EPERM, capability)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { { 0, 0, 0 }, { 0, 0, 0 } };
	CHECK(syscall(SYS_capset, &header, none) == 0);
	FAILS(flexcast_listen(transparent_bound(), 1), EPERM);
}
CASE(listen, EOPNOTSUPP, guard)
{
	struct flexcast_on_request on = { refuse, NULL };
	int fd = transparent_bound();
	CHECK(set(fd, FLEXCAST_ON_REQUEST, &on, sizeof on) == 0);
	FAILS(flexcast_listen(fd, 1), EOPNOTSUPP);
}

CASE(connect, EINVAL, downstream)
{
	FAILS(connect_up(upstream(passing()), 8), EINVAL);
}
CASE(connect, EPIPE, downstream)
{
	int accepted = passing(), fd = upstream(accepted);
	CHECK(flexcast_close(accepted) == 0);
	FAILS(connect_up(fd, 7), EPIPE);
}
CASE(connect, EALREADY, downstream)
{
	int accepted = passing(), first = upstream(accepted), second = upstream(accepted);
	CHECK(connect_up(first, 7) == 0);
	FAILS(connect_up(second, 7), EALREADY);
}
CASE(connect, EOPNOTSUPP, fork)
{
	int fd = upstream(passing());
	IN_CHILD(FAILS(connect_up(fd, 7), EOPNOTSUPP));
}

#define PASSES(call, give)                                                         \
	CASE(call, ENOTCONN, downstream)                                           \
	{                                                                          \
		size_t length = 40;                                                \
		int fd = passing();                                                \
		FAILS(give, ENOTCONN);                                             \
	}                                                                          \
	CASE(call, EINVAL, whole)                                                  \
	{                                                                          \
		size_t length = 40;                                                \
		int fd = passing();                                                \
		CHECK(connect_up(upstream(fd), 7) == 0);                           \
		FAILS(give, EINVAL);                                               \
	}                                                                          \
	CASE(call, EOPNOTSUPP, fork)                                               \
	{                                                                          \
		size_t length = 40;                                                \
		int fd = passing();                                                \
		IN_CHILD(FAILS(give, EOPNOTSUPP));                                 \
	}

CASE(shutdown, EOPNOTSUPP, fork)
{
	int fd = passing();
	IN_CHILD(FAILS(flexcast_shutdown(fd, SHUT_RDWR), EOPNOTSUPP));
}

static char untrailed[40];
PASSES(send, flexcast_send(fd, untrailed, length))
PASSES(sendmmsg, batch(fd, length))
