/* What goes through the sockets of a storm (storm.c), and what is right about it: whole
   datagrams, of the socket's channel, in each sender's order, to nobody who was refused.
   Is not how the sockets come about (storm-sockets.h). C11. */
#ifndef STORM_TRAFFIC_H
#define STORM_TRAFFIC_H

#include "storm-sockets.h"

static size_t compose(struct worker *w, int fd, struct datagram *d)
{
	struct sent *before = &sent[w->number][facts[fd].id];
	if (before->stream != facts[fd].stream)
		*before = (struct sent){ facts[fd].stream, 0 };
	d->process = process;
	d->id = facts[fd].id;
	d->stream = facts[fd].stream;
	d->sequence = ++before->sequence;
	d->worker = (uint16_t)w->number;
	return write_datagram(d, below(w, sizeof d->fill));
}

static void send_one(struct worker *w, int fd)
{
	struct datagram d;
	size_t length = compose(w, fd, &d);
	begin(w, SEND, fd);
	ssize_t n = flexcast_send(fd, &d, length);
	if (end(w, n) && (size_t)n != length)
		wrong("%zd of %zu bytes were sent", n, length);
}

static void send_many(struct worker *w, int fd)
{
	struct datagram d[8];
	struct iovec parts[8][2];
	struct mmsghdr m[8];
	memset(m, 0, sizeof m);
	unsigned count = 1 + below(w, 8);
	for (unsigned n = 0; n < count; n++) {
		size_t length = compose(w, fd, &d[n]), cut = below(w, (unsigned)length);
		parts[n][0] = (struct iovec){ &d[n], cut };
		parts[n][1] = (struct iovec){ (char *)&d[n] + cut, length - cut };
		m[n].msg_hdr.msg_iov = parts[n];
		m[n].msg_hdr.msg_iovlen = 2;
	}
	begin(w, SENDMMSG, fd);
	int taken = flexcast_sendmmsg(fd, m, count, below(w, 2) ? MSG_DONTWAIT : 0);
	if (end(w, taken) && (unsigned)taken != count)
		wrong("%d of %u datagrams were sent", taken, count);
}

/* Flat out, as long as somebody is there. */
static void send_flat_out(struct worker *w, int fd)
{
	struct datagram d;
	ssize_t n = 0;
	for (int left = 400; left > 0 && n >= 0; left--) {
		size_t length = compose(w, fd, &d);
		begin(w, SEND, fd);
		n = flexcast_send(fd, &d, length);
		end(w, n);
	}
}

/* A datagram that a thread got at a shared socket; the view is that of a receiver's. */
static void check(struct view *view, int fd, const struct datagram *d, size_t length)
{
	check_whole(d, length);
	atomic_fetch_add_explicit(&heard, 1, memory_order_relaxed);
	if (view == NULL)
		return;
	const struct facts *at = &facts[fd];
	if (d->id != at->id) {
		/* Until a status has come, a socket that is not strict takes any of S. */
		if (at->strict)
			wrong("channel %llu came at a receiver of %llu", (unsigned long long)d->id,
			      (unsigned long long)at->id);
		atomic_fetch_add_explicit(&strays, 1, memory_order_relaxed);
		return;
	}
	if (at->refusable && GUARDED(d->id))
		wrong("%d was let in though the callback refused it", fd);
	if (view->fd != fd || view->process != d->process || view->stream != d->stream) {
		if (view->fd == fd && view->process == d->process && view->stream > d->stream)
			wrong("stream %u came after stream %u", d->stream, view->stream);
		memset(view, 0, sizeof *view);
		view->fd = fd;
		view->process = d->process;
		view->stream = d->stream;
	}
	if (d->sequence <= view->last[d->worker])
		wrong("sequence %u came after %u", d->sequence, view->last[d->worker]);
	view->last[d->worker] = d->sequence;
}

/* Takes a datagram, or some; 0, or the errno. */
static int receive_some(struct worker *w, int fd, struct view *view)
{
	struct datagram d[4];
	struct iovec parts[4];
	struct mmsghdr m[4];
	if (below(w, 3)) {
		begin(w, RECV, fd);
		ssize_t n = flexcast_recv(fd, d, sizeof *d);
		if (!end(w, n))
			return errno;
		if (n > 0)
			check(view, fd, d, (size_t)n);
		return 0;
	}
	memset(m, 0, sizeof m);
	for (int n = 0; n < 4; n++) {
		parts[n] = (struct iovec){ &d[n], sizeof d[n] };
		m[n].msg_hdr.msg_iov = &parts[n];
		m[n].msg_hdr.msg_iovlen = 1;
	}
	int flags = below(w, 2) ? MSG_DONTWAIT : MSG_WAITFORONE;
	begin(w, RECVMMSG, fd);
	int got = flexcast_recvmmsg(fd, m, 4, flags, NULL);
	if (!end(w, got))
		return errno;
	for (int n = 0; n < got; n++)
		if (m[n].msg_hdr.msg_flags != MSG_EOR)
			check(view, fd, &d[n], m[n].msg_len);
	return 0;
}

static void receive(struct worker *w, int fd, struct view *view)
{
	if (receive_some(w, fd, view) != ECONNREFUSED)
		return;
	if (view != NULL && !facts[fd].refusable)
		wrong("%d was refused though the callback lets it in", fd);
	atomic_fetch_add_explicit(&refused, 1, memory_order_relaxed);
}

#endif
