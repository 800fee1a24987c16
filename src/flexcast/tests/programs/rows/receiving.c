/* recv and recvmmsg. What they share is written once: take() is either of them. */

static struct iovec part = { &byte, 1 };
static int one(int fd, int flags, struct timespec *timeout)
{
	message.msg_hdr.msg_iov = &part;
	message.msg_hdr.msg_iovlen = 1;
	return flexcast_recvmmsg(fd, &message, 1, flags, timeout);
}

CASE(recv, length, length)
{
	char b[8];
	struct pair p = pair();
	CHECK(flexcast_send(p.sends, "hello", 5) == 5 && flexcast_send(p.sends, "again", 5) == 5);
	GIVES(flexcast_recv(p.receives, b, sizeof b), 5);
	CHECK(memcmp(b, "hello", 5) == 0);
	GIVES(flexcast_recv(p.receives, b, 2), 2);
}
CASE(recv, 0, end)
{
	struct pair p = pair();
	CHECK(flexcast_close(p.sends) == 0);
	GIVES(flexcast_recv(p.receives, &byte, 1), 0);
}
CASE(recv, 0, audience)
{
	struct pair p = deserted();
	GIVES(flexcast_recv(p.sends, &byte, 1), 0);
	GIVES(flexcast_recv(p.sends, &byte, 1), 0);
}
static void *shut_down(void *fd)
{
	usleep(50000);
	CHECK(flexcast_shutdown(*(int *)fd, SHUT_RD) == 0);
	return NULL;
}
CASE(recv, 0, shutdown)
{
	int fd = receiver(1);
	pthread_t thread;
	limit(fd, 0);
	CHECK(pthread_create(&thread, NULL, shut_down, &fd) == 0);
	GIVES(flexcast_recv(fd, &byte, 1), 0);
	CHECK(pthread_join(thread, NULL) == 0);
}
CASE(recv, 0, empty)
{
	struct pair p = pair();
	CHECK(flexcast_send(p.sends, "", 0) == 0 && flexcast_send(p.sends, "x", 1) == 1);
	GIVES(flexcast_recv(p.receives, &byte, 1), 0);
	GIVES(flexcast_recv(p.receives, &byte, 1), 1);
}
CASE(recv, EFAULT, buffer)
{
	FAILS(flexcast_recv(receiver(1), NULL, 1), EFAULT);
	FAILS(flexcast_recv(receiver(1), &byte, SIZE_MAX), EFAULT);
}

#define TAKES(call, take)                                                          \
	CASE(call, ENOTCONN, role)                                                 \
	{                                                                          \
		int fd = plain();                                                  \
		FAILS(take, ENOTCONN);                                             \
		fd = listener(1, 0);                                               \
		FAILS(take, ENOTCONN);                                             \
	}                                                                          \
	CASE(call, ECONNREFUSED, refused)                                          \
	{                                                                          \
		int fd = refused();                                                \
		FAILS(take, ECONNREFUSED);                                         \
		FAILS(take, ECONNREFUSED);                                         \
	}                                                                          \
	CASE(call, EAGAIN, nonblocking)                                            \
	{                                                                          \
		struct pair p = pair();                                            \
		int fd = p.receives;                                               \
		set_nonblocking(fd);                                               \
		FAILS(take, EAGAIN);                                               \
		fd = p.sends;                                                      \
		set_nonblocking(fd);                                               \
		FAILS(take, EAGAIN);                                               \
	}                                                                          \
	CASE(call, EAGAIN, timeout)                                                \
	{                                                                          \
		int fd = receiver(1);                                              \
		limit(fd, 30);                                                     \
		FAILS(take, EAGAIN);                                               \
	}                                                                          \
	CASE(call, EAGAIN, full)                                                   \
	{                                                                          \
		int fd = left_out();                                               \
		limit(fd, 1500);                                                   \
		FAILS(take, EAGAIN);                                               \
	}                                                                          \
	CASE(call, EAGAIN, vanished)                                               \
	{                                                                          \
		int fd = orphan();                                                 \
		limit(fd, 1500);                                                   \
		FAILS(take, EAGAIN);                                               \
	}                                                                          \
	CASE(call, EINTR, signal)                                                  \
	{                                                                          \
		int fd = receiver(1);                                              \
		expect_signal();                                                   \
		FAILS(take, EINTR);                                                \
		limit(fd, 0);                                                      \
		FAILS(take, EINTR);                                                \
	}

/* The receiver that a sender with an audience of 256 has no room for. */
static int left_out(void)
{
	socklen_t length = 0;
	struct pair p = pair();
	for (int n = 1; n < 256; n++)
		receiver(7);
	for (int n = 0; length < 256 * sizeof(struct flexcast_requester); n++) {
		CHECK(n < 1000);
		usleep(10000);
		length = 0;
		CHECK(get(p.sends, FLEXCAST_REQUESTERS, NULL, &length) == 0);
	}
	return receiver(7);
}

/* One whose sender is killed. */
static int orphan(void)
{
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		int fd = flexcast_accept(listener(7, 0), NULL, NULL);
		CHECK(flexcast_send(fd, "x", 1) == 1);
		for (;;)
			pause();
	}
	int fd = receiver(7);
	CHECK(flexcast_recv(fd, &byte, 1) == 1);
	kill_child(child);
	return fd;
}
TAKES(recv, flexcast_recv(fd, &byte, 1))
TAKES(recvmmsg, one(fd, 0, NULL))

CASE(recvmmsg, count, count)
{
	char b[3][4];
	struct iovec parts[3];
	struct mmsghdr all[3];
	memset(all, 0, sizeof all);
	for (int n = 0; n < 3; n++) {
		parts[n] = (struct iovec){ b[n], sizeof b[n] };
		all[n].msg_hdr.msg_iov = &parts[n];
		all[n].msg_hdr.msg_iovlen = 1;
	}
	struct pair p = pair();
	CHECK(flexcast_send(p.sends, "", 0) == 0 && flexcast_send(p.sends, "12345", 5) == 5);
	CHECK(flexcast_close(p.sends) == 0);
	GIVES(flexcast_recvmmsg(p.receives, all, 3, 0, NULL), 3);
	CHECK(all[0].msg_len == 0 && all[0].msg_hdr.msg_flags == 0);
	CHECK(all[1].msg_len == 4 && all[1].msg_hdr.msg_flags == MSG_TRUNC);
	CHECK(all[2].msg_len == 0 && all[2].msg_hdr.msg_flags == MSG_EOR);
}
CASE(recvmmsg, 0, none)
{
	GIVES(flexcast_recvmmsg(receiver(1), NULL, 0, 0, NULL), 0);
}
CASE(recvmmsg, EFAULT, messages)
{
	FAILS(flexcast_recvmmsg(receiver(1), NULL, 1, 0, NULL), EFAULT);
}
CASE(recvmmsg, EFAULT, parts)
{
	struct iovec nowhere = { NULL, 1 };
	struct mmsghdr all = { .msg_hdr = { .msg_iovlen = 1 } };
	struct pair p = pair();
	FAILS(flexcast_recvmmsg(p.receives, &all, 1, 0, NULL), EFAULT);
	all.msg_hdr.msg_iov = &nowhere;
	FAILS(flexcast_recvmmsg(p.receives, &all, 1, 0, NULL), EFAULT);
	nowhere = (struct iovec){ &byte, SIZE_MAX };
	FAILS(flexcast_recvmmsg(p.receives, &all, 1, 0, NULL), EFAULT);
	/* Nothing was lost by it. */
	CHECK(flexcast_send(p.sends, "x", 1) == 1);
	FAILS(flexcast_recvmmsg(p.receives, &all, 1, 0, NULL), EFAULT);
	CHECK(flexcast_recv(p.receives, &byte, 1) == 1);
}
CASE(recvmmsg, EMSGSIZE, parts)
{
	static struct iovec parts[1025];
	struct mmsghdr all = { .msg_hdr = { .msg_iov = parts, .msg_iovlen = 1025 } };
	FAILS(flexcast_recvmmsg(receiver(1), &all, 1, 0, NULL), EMSGSIZE);
}
CASE(recvmmsg, EINVAL, timeout)
{
	struct timespec negative = { -1, 0 }, long_second = { 0, 1000000000 };
	FAILS(one(receiver(1), 0, &negative), EINVAL);
	FAILS(one(receiver(1), 0, &long_second), EINVAL);
}
