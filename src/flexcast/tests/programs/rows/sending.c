/* send and sendmmsg. What they share is written once. */

static int batch(int fd, size_t length)
{
	static char big[65492];
	static struct iovec piece;
	static struct mmsghdr all[2];
	piece = (struct iovec){ big, length };
	for (int n = 0; n < 2; n++) {
		all[n].msg_hdr.msg_iov = &piece;
		all[n].msg_hdr.msg_iovlen = n == 0 ? 0 : 1;
	}
	int sent = flexcast_sendmmsg(fd, all, 2, 0);
	CHECK(sent < 0 || all[1].msg_len == length);
	return sent;
}

CASE(send, length, length)
{
	char b[8];
	struct pair p = pair();
	GIVES(flexcast_send(p.sends, "hello", 5), 5);
	CHECK(flexcast_recv(p.receives, b, sizeof b) == 5);
}
CASE(send, 0, empty)
{
	struct pair p = pair();
	GIVES(flexcast_send(p.sends, NULL, 0), 0);
	CHECK(one(p.receives, 0, NULL) == 1 && message.msg_len == 0);
	CHECK(message.msg_hdr.msg_flags == 0);
}
CASE(send, EFAULT, buffer)
{
	int fd = pair().sends;
	FAILS(flexcast_send(fd, NULL, 1), EFAULT);
	FAILS(flexcast_send(fd, &byte, SIZE_MAX), EFAULT);
}

#define SENDS(call, give)                                                          \
	CASE(call, ENOTCONN, role)                                                 \
	{                                                                          \
		size_t length = 1;                                                 \
		int fd = plain();                                                  \
		FAILS(give, ENOTCONN);                                             \
		fd = listener(1, 0);                                               \
		FAILS(give, ENOTCONN);                                             \
	}                                                                          \
	CASE(call, EOPNOTSUPP, receiver)                                           \
	{                                                                          \
		size_t length = 1;                                                 \
		int fd = receiver(1);                                              \
		FAILS(give, EOPNOTSUPP);                                           \
	}                                                                          \
	CASE(call, EPIPE, parent)                                                  \
	{                                                                          \
		size_t length = 1;                                                 \
		int fd;                                                            \
		IN_ORPHAN(fd = pair().sends, FAILS(give, EPIPE));                  \
	}                                                                          \
	CASE(call, EPIPE, audience)                                                \
	{                                                                          \
		size_t length = 1;                                                 \
		int fd = deserted().sends;                                         \
		FAILS(give, EPIPE);                                                \
		FAILS(give, EPIPE);                                                \
	}                                                                          \
	CASE(call, EPIPE, vanished)                                                \
	{                                                                          \
		size_t length = 1;                                                 \
		int fd = bereaved();                                               \
		errno = 0;                                                         \
		for (int n = 0; (give) > 0; n++) {                                 \
			CHECK(n < 300);                                            \
			usleep(10000);                                             \
		}                                                                  \
		CHECK(errno == EPIPE);                                             \
	}                                                                          \
	CASE(call, EPIPE, shutdown)                                                \
	{                                                                          \
		size_t length = 1;                                                 \
		int fd = pair().sends;                                             \
		CHECK(flexcast_shutdown(fd, SHUT_WR) == 0);                        \
		FAILS(give, EPIPE);                                                \
	}                                                                          \
	CASE(call, EMSGSIZE, length)                                               \
	{                                                                          \
		size_t length = 65492;                                             \
		int fd = pair().sends;                                             \
		FAILS(give, EMSGSIZE);                                             \
		length--;                                                          \
		CHECK((give) > 0);                                                 \
	}
static char big_one[65492];

/* What was accepted for a receiver that is killed. */
static int bereaved(void)
{
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		receiver(7);
		for (;;)
			pause();
	}
	int fd = flexcast_accept(listener(7, 0), NULL, NULL);
	CHECK(fd >= 0);
	kill_child(child);
	return fd;
}
SENDS(send, flexcast_send(fd, big_one, length))
SENDS(sendmmsg, batch(fd, length))

CASE(sendmmsg, count, count)
{
	char b[8];
	struct pair p = pair();
	GIVES(batch(p.sends, 3), 2);
	CHECK(flexcast_recv(p.receives, b, sizeof b) == 0);
	CHECK(flexcast_recv(p.receives, b, sizeof b) == 3);
}
CASE(sendmmsg, 0, none)
{
	GIVES(flexcast_sendmmsg(pair().sends, NULL, 0, 0), 0);
}
CASE(sendmmsg, EFAULT, messages)
{
	FAILS(flexcast_sendmmsg(pair().sends, NULL, 1, 0), EFAULT);
}
CASE(sendmmsg, EFAULT, parts)
{
	struct iovec nowhere = { NULL, 1 };
	struct mmsghdr all = { .msg_hdr = { .msg_iovlen = 1 } };
	int fd = pair().sends;
	FAILS(flexcast_sendmmsg(fd, &all, 1, 0), EFAULT);
	all.msg_hdr.msg_iov = &nowhere;
	FAILS(flexcast_sendmmsg(fd, &all, 1, 0), EFAULT);
	nowhere = (struct iovec){ &byte, SIZE_MAX };
	FAILS(flexcast_sendmmsg(fd, &all, 1, 0), EFAULT);
}
CASE(sendmmsg, EMSGSIZE, parts)
{
	static struct iovec parts[1025];
	struct mmsghdr all = { .msg_hdr = { .msg_iov = parts, .msg_iovlen = 1025 } };
	FAILS(flexcast_sendmmsg(pair().sends, &all, 1, 0), EMSGSIZE);
}
