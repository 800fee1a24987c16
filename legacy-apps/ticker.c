/* ticker: prints the quotes that a server publishes over TCP, to their end.
 *
 *   ticker [-a WORDS] HOST PORT FIRST
 *
 * Quotes with a number below FIRST are left out: those that connect one after the other
 * print the same. -a says WORDS to the server first.
 *
 * Promises: only the usual BSD calls; reads by poll, at most 100 bytes a time; 10 s of
 * silence, or a quote that is missing or torn, end it with status 1. Is not aware of
 * Flexcast: see quotes.c.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#define LONGEST 8192
#define SILENCE_MS 10000

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int connected(const char *host, const char *port)
{
	struct addrinfo hints, *found;
	int on = 1, fd, error;
	memset(&hints, 0, sizeof hints);
	hints.ai_socktype = SOCK_STREAM;
	if ((error = getaddrinfo(host, port, &hints, &found)) != 0) {
		fprintf(stderr, "%s %s: %s\n", host, port, gai_strerror(error));
		exit(2);
	}
	if ((fd = socket(found->ai_family, found->ai_socktype, found->ai_protocol)) < 0)
		fail("socket");
	if (connect(fd, found->ai_addr, found->ai_addrlen) < 0)
		fail("connect");
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
		fail("TCP_NODELAY");
	freeaddrinfo(found);
	fputs("connected\n", stderr);
	return fd;
}

/* The bytes that came, 0 at the end. */
static size_t some(int fd, char *to, size_t room)
{
	struct pollfd readable;
	ssize_t n;
	int ready;
	readable.fd = fd;
	readable.events = POLLIN;
	if ((ready = poll(&readable, 1, SILENCE_MS)) < 0)
		fail("poll");
	if (ready == 0) {
		fputs("silence\n", stderr);
		exit(1);
	}
	if ((n = read(fd, to, room)) < 0)
		fail("read");
	return (size_t)n;
}

/* Prints a whole line; the number that has to follow. */
static long take(const char *line, size_t length, long wanted, long first)
{
	char *end;
	long n = strtol(line, &end, 10);
	if (end != line + 6 || (wanted >= 0 && n != wanted)) {
		fprintf(stderr, "quote %ld: instead came %.40s\n", wanted, line);
		exit(1);
	}
	if (n >= first)
		fwrite(line, 1, length, stdout);
	return n + 1;
}

int main(int argc, char **argv)
{
	char line[LONGEST];
	const char *words = NULL;
	size_t held = 0, came;
	long wanted = -1;
	int fd;
	if (argc == 6 && strcmp(argv[1], "-a") == 0) {
		words = argv[2];
		argc -= 2;
		argv += 2;
	}
	if (argc != 4) {
		fputs("usage: ticker [-a WORDS] HOST PORT FIRST\n", stderr);
		return 2;
	}
	fd = connected(argv[1], argv[2]);
	if (words != NULL && send(fd, words, strlen(words), MSG_NOSIGNAL) < 0)
		fail("send");
	while ((came = some(fd, line + held, 100)) > 0) {
		char *end;
		held += came;
		while ((end = (char *)memchr(line, '\n', held)) != NULL) {
			size_t length = (size_t)(end - line) + 1;
			wanted = take(line, length, wanted, atol(argv[3]));
			held -= length;
			memmove(line, line + length, held);
		}
		if (held > sizeof line - 100) {
			fputs("a line without an end\n", stderr);
			return 1;
		}
	}
	if (held > 0) {
		fputs("the last line is torn\n", stderr);
		return 1;
	}
	return fflush(stdout) != 0 || close(fd) < 0;
}
