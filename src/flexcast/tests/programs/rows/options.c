/* setsockopt and getsockopt. */

static int set(int fd, int name, const void *value, socklen_t length)
{
	return flexcast_setsockopt(fd, SOL_FLEXCAST, name, value, length);
}

static int get(int fd, int name, void *value, socklen_t *length)
{
	return flexcast_getsockopt(fd, SOL_FLEXCAST, name, value, length);
}

static const int times[] = { FLEXCAST_REFRESH, FLEXCAST_HOLD, FLEXCAST_HEARTBEAT };
static const int words[] = { FLEXCAST_REFRESH, FLEXCAST_HOLD, FLEXCAST_HEARTBEAT,
			     FLEXCAST_STRICT, FLEXCAST_MOST_REQUESTERS,
			     FLEXCAST_MOST_PER_SOURCE };

CASE(setsockopt, 0, done)
{
	unsigned int value = 5000;
	struct sockaddr_in6 via = { .sin6_family = AF_INET6 };
	struct flexcast_on_request on = { refuse, NULL };
	int fd = plain();
	for (size_t n = 0; n < NUMBER_OF(words); n++)
		GIVES(set(fd, words[n], &value, sizeof value), 0);
	GIVES(set(fd, FLEXCAST_VIA, &via, sizeof via), 0);
	GIVES(set(fd, FLEXCAST_CREDENTIAL, "word", 4), 0);
	GIVES(set(fd, FLEXCAST_ON_REQUEST, &on, sizeof on), 0);
	value = 1 << 16;
	GIVES(flexcast_setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof value), 0);
}
CASE(setsockopt, EFAULT, value)
{
	FAILS(set(plain(), FLEXCAST_STRICT, NULL, sizeof(int)), EFAULT);
}
CASE(setsockopt, EINVAL, length)
{
	char value[65] = { AF_INET };
	int fd = plain();
	for (size_t n = 0; n < NUMBER_OF(words); n++)
		FAILS(set(fd, words[n], value, sizeof(int) - 1), EINVAL);
	FAILS(set(fd, FLEXCAST_VIA, value, sizeof(struct sockaddr_in) - 1), EINVAL);
	FAILS(set(fd, FLEXCAST_CREDENTIAL, value, 65), EINVAL);
	FAILS(set(fd, FLEXCAST_ON_REQUEST, value, sizeof(void *)), EINVAL);
}
CASE(setsockopt, EINVAL, bounds)
{
	const unsigned int wrong[][2] = { { 999, 60001 }, { 999, 60001 }, { 99, 10001 } };
	for (size_t n = 0; n < NUMBER_OF(times); n++)
		for (int end = 0; end < 2; end++)
			FAILS(set(plain(), times[n], &wrong[n][end], sizeof(int)), EINVAL);
	const int limits[] = { FLEXCAST_MOST_REQUESTERS, FLEXCAST_MOST_PER_SOURCE };
	const unsigned int most[] = { 100000, 1000000 };
	for (size_t n = 0; n < NUMBER_OF(limits); n++) {
		const unsigned int none = 0, more = most[n] + 1;
		FAILS(set(plain(), limits[n], &none, sizeof none), EINVAL);
		GIVES(set(plain(), limits[n], &most[n], sizeof none), 0);
		FAILS(set(plain(), limits[n], &more, sizeof more), EINVAL);
	}
}
CASE(setsockopt, EINVAL, role)
{
	int on = 1;
	struct pair p = pair();
	FAILS(set(p.listens, FLEXCAST_STRICT, &on, sizeof on), EINVAL);
	FAILS(set(p.sends, FLEXCAST_STRICT, &on, sizeof on), EINVAL);
}
CASE(setsockopt, EINVAL, pointer)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, 65535);
	struct sock_fprog program = { 1, &all };
	FAILS(flexcast_setsockopt(plain(), SOL_SOCKET, SO_ATTACH_FILTER, &program,
				  sizeof program),
	      EINVAL);
}
CASE(setsockopt, EISCONN, connected)
{
	int on = 1;
	FAILS(set(receiver(1), FLEXCAST_STRICT, &on, sizeof on), EISCONN);
}
CASE(setsockopt, EAFNOSUPPORT, via)
{
	struct sockaddr_in via = { .sin_family = AF_UNIX };
	FAILS(set(plain(), FLEXCAST_VIA, &via, sizeof via), EAFNOSUPPORT);
}
CASE(setsockopt, ENOPROTOOPT, name)
{
	int on = 1;
	FAILS(set(plain(), 4711, &on, sizeof on), ENOPROTOOPT);
	FAILS(set(plain(), FLEXCAST_STATS, &on, sizeof on), ENOPROTOOPT);
	FAILS(set(plain(), FLEXCAST_REQUESTERS, &on, sizeof on), ENOPROTOOPT);
}
CASE(setsockopt, ENOPROTOOPT, kernel)
{
	int on = 1;
	FAILS(flexcast_setsockopt(plain(), SOL_SOCKET, 4711, &on, sizeof on), ENOPROTOOPT);
}

CASE(getsockopt, 0, done)
{
	struct flexcast_stats stats;
	socklen_t length = sizeof stats;
	struct pair p = pair();
	GIVES(get(p.receives, FLEXCAST_STATS, &stats, &length), 0);
	CHECK(length == sizeof stats && stats.received == 0);
	length = 0;
	GIVES(get(p.sends, FLEXCAST_REQUESTERS, NULL, &length), 0);
	CHECK(length == sizeof(struct flexcast_requester));
	unsigned int value = 0;
	for (size_t n = 0; n < NUMBER_OF(words); n++) {
		length = sizeof value;
		GIVES(get(p.receives, words[n], &value, &length), 0);
		CHECK(length == sizeof value && (value >= 256) == (words[n] != FLEXCAST_STRICT));
	}
	length = sizeof value;
	GIVES(get(p.receives, FLEXCAST_CREDENTIAL, &value, &length), 0);
	CHECK(length == 0);
	length = sizeof value;
	GIVES(flexcast_getsockopt(p.receives, SOL_SOCKET, SO_TYPE, &value, &length), 0);
	CHECK(value == SOCK_DGRAM);
}
CASE(getsockopt, EFAULT, length)
{
	int value;
	FAILS(get(plain(), FLEXCAST_STRICT, &value, NULL), EFAULT);
}
CASE(getsockopt, EFAULT, value)
{
	socklen_t length = sizeof(int);
	FAILS(get(plain(), FLEXCAST_STRICT, NULL, &length), EFAULT);
}
CASE(getsockopt, ENOTCONN, stats)
{
	struct flexcast_stats stats;
	socklen_t length = sizeof stats;
	FAILS(get(plain(), FLEXCAST_STATS, &stats, &length), ENOTCONN);
	FAILS(get(pair().sends, FLEXCAST_STATS, &stats, &length), ENOTCONN);
}
CASE(getsockopt, ENOTCONN, requesters)
{
	socklen_t length = 0;
	FAILS(get(receiver(1), FLEXCAST_REQUESTERS, NULL, &length), ENOTCONN);
	FAILS(get(listener(1, 0), FLEXCAST_REQUESTERS, NULL, &length), ENOTCONN);
}
CASE(getsockopt, EADDRNOTAVAIL, via)
{
	struct sockaddr_in via;
	socklen_t length = sizeof via;
	FAILS(get(plain(), FLEXCAST_VIA, &via, &length), EADDRNOTAVAIL);
}
CASE(getsockopt, ENOPROTOOPT, name)
{
	int value;
	socklen_t length = sizeof value;
	FAILS(get(plain(), 4711, &value, &length), ENOPROTOOPT);
	FAILS(get(plain(), FLEXCAST_ON_REQUEST, &value, &length), ENOPROTOOPT);
}
CASE(getsockopt, ENOPROTOOPT, kernel)
{
	int value;
	socklen_t length = sizeof value;
	FAILS(flexcast_getsockopt(plain(), SOL_SOCKET, 4711, &value, &length), ENOPROTOOPT);
}
CASE(getsockopt, ENOTCONN, refused)
{
	uint64_t count;
	socklen_t length = sizeof count;
	FAILS(get(plain(), FLEXCAST_REFUSED, &count, &length), ENOTCONN);
	FAILS(get(receiver(1), FLEXCAST_REFUSED, &count, &length), ENOTCONN);
}
CASE(getsockopt, EOPNOTSUPP, fork)
{
	struct pair p = pair();
	IN_CHILD({
		socklen_t length = 0;
		FAILS(get(p.sends, FLEXCAST_REQUESTERS, NULL, &length), EOPNOTSUPP);
		FAILS(get(p.listens, FLEXCAST_REFUSED, NULL, &length), EOPNOTSUPP);
	});
}
