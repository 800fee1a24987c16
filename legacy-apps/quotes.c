/* quotes: publishes quotes over TCP to everybody who is connected.
 *
 *   quotes [-b ADDRESS] PORT COUNT RATE
 *   quotes -p COUNT                      prints them
 *
 * RATE a second, COUNT in all, while anybody is there; each is a line that begins with its
 * number, every 50th a long one of some 4 000 bytes. What clients say is not looked at.
 * Ends when all are published, with a line for each client on standard error.
 *
 * Promises: only the usual BSD calls, one thread, poll; a client that goes is no error. Is
 * not aware of Flexcast: compiled with -include flexcast_compat.h, one socket stands for
 * all clients.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS 64
#define LONGEST 8192

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static long number(const char *text, const char *what, long most)
{
	char *end;
	long value = strtol(text, &end, 10);
	if (end == text || *end != '\0' || value < 1 || value > most) {
		fprintf(stderr, "%s %s: expected a number from 1 to %ld\n", what, text, most);
		exit(2);
	}
	return value;
}

static int64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static size_t quote(char *line, long n)
{
	static const char *const names[] = { "ACME", "BOLT", "CORK", "DRUM", "ECHO" };
	long price = n * 7919 % 100000;
	int at = snprintf(line, LONGEST, "%06ld %s %ld.%02ld", n, names[n % 5], price / 100, price % 100);
	for (long day = 0; n % 50 == 49 && day < 400; day++) {
		price = (price * 31 + day) % 100000;
		at += snprintf(line + at, LONGEST - (size_t)at, " %ld.%02ld", price / 100, price % 100);
	}
	line[at++] = '\n';
	return (size_t)at;
}

static int listening(const char *address, const char *port)
{
	struct addrinfo hints, *found;
	int on = 1, fd, error;
	memset(&hints, 0, sizeof hints);
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV;
	if ((error = getaddrinfo(address, port, &hints, &found)) != 0) {
		fprintf(stderr, "%s %s: %s\n", address, port, gai_strerror(error));
		exit(2);
	}
	if ((fd = socket(found->ai_family, found->ai_socktype, found->ai_protocol)) < 0)
		fail("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
		fail("SO_REUSEADDR");
	if (bind(fd, found->ai_addr, found->ai_addrlen) < 0)
		fail("bind");
	if (listen(fd, 16) < 0)
		fail("listen");
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		fail("O_NONBLOCK");
	freeaddrinfo(found);
	return fd;
}

/* Takes in whoever waits. */
static int admit(int listener, struct pollfd *clients, int count)
{
	while (count < CLIENTS) {
		struct sockaddr_storage from;
		socklen_t length = sizeof from;
		char host[64], port[8];
		int fd = accept(listener, (struct sockaddr *)&from, &length);
		if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (fd < 0)
			fail("accept");
		if (getnameinfo((struct sockaddr *)&from, length, host, sizeof host, port, sizeof port,
				NI_NUMERICHOST | NI_NUMERICSERV) == 0)
			fprintf(stderr, "client %s %s\n", host, port);
		clients[count].fd = fd;
		clients[count].events = POLLIN;
		clients[count++].revents = 0;
	}
	return count;
}

/* Whether it is still there; what it says is dropped. */
static int stays(const struct pollfd *client)
{
	char said[512];
	ssize_t n;
	if (client->revents == 0)
		return 1;
	n = recv(client->fd, said, sizeof said, MSG_DONTWAIT);
	return n > 0 || (n < 0 && errno == EAGAIN);
}

static int sent(int fd, const char *line, size_t length)
{
	while (length > 0) {
		ssize_t n = send(fd, line, length, MSG_NOSIGNAL);
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 0;
		if (n < 0)
			fail("send");
		line += n;
		length -= (size_t)n;
	}
	return 1;
}

static int close_all(struct pollfd *clients, int count, const char *keep)
{
	int left = 0;
	for (int i = 0; i < count; i++) {
		if (keep != NULL && keep[i])
			clients[left++] = clients[i];
		else if (close(clients[i].fd) < 0)
			fail("close");
	}
	return left;
}

static void publish(int listener, long total, long rate)
{
	struct pollfd polled[1 + CLIENTS], *clients = polled + 1;
	char line[LONGEST], keep[CLIENTS];
	int64_t next = 0;
	int count = 0;
	polled[0].fd = listener;
	polled[0].events = POLLIN;
	for (long n = 0; n < total;) {
		int64_t wait = count == 0 ? -1 : (next - now_us() + 999) / 1000;
		if (poll(polled, (nfds_t)(1 + count), count > 0 && wait < 0 ? 0 : (int)wait) < 0)
			fail("poll");
		for (int i = 0; i < count; i++)
			keep[i] = (char)stays(&clients[i]);
		count = close_all(clients, count, keep);
		if (polled[0].revents != 0) {
			int before = count;
			count = admit(listener, clients, count);
			if (before == 0)
				next = now_us();
		}
		if (count > 0 && now_us() >= next) {
			size_t length = quote(line, n++);
			for (int i = 0; i < count; i++)
				keep[i] = (char)sent(clients[i].fd, line, length);
			count = close_all(clients, count, keep);
			next += 1000000 / rate;
		}
	}
	close_all(clients, count, NULL);
}

int main(int argc, char **argv)
{
	const char *address = NULL;
	char line[LONGEST];
	int listener;
	if (argc == 3 && strcmp(argv[1], "-p") == 0) {
		long total = number(argv[2], "COUNT", 1000000);
		for (long n = 0; n < total; n++)
			fwrite(line, 1, quote(line, n), stdout);
		return fflush(stdout) != 0;
	}
	if (argc == 6 && strcmp(argv[1], "-b") == 0) {
		address = argv[2];
		argc -= 2;
		argv += 2;
	}
	if (argc != 4) {
		fputs("usage: quotes [-b ADDRESS] PORT COUNT RATE | quotes -p COUNT\n", stderr);
		return 2;
	}
	listener = listening(address, argv[1]);
	fputs("listening\n", stderr);
	publish(listener, number(argv[2], "COUNT", 1000000), number(argv[3], "RATE", 100000));
	return close(listener) < 0;
}
