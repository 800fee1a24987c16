/* A relay of the API's two halves: accepts whatever channel is asked for of a host behind
   this one, connects to it in its audience's stead, and copies. usage: relay, as root or
   with CAP_NET_ADMIN, beside rules that hand it the requests (../README.md). Is the whole
   of a relay: the library knows what the two halves have to tell each other. */
#include <errno.h>
#include <flexcast.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* One channel, as long as somebody below wants it. */
static void *pass(void *accepted)
{
	char *buf = (char *)malloc(65536);
	int down = (int)(intptr_t)accepted, up = flexcast_socket(AF_INET6, SOCK_DGRAM, 0);
	struct flexcast_channel6 c;
	socklen_t length = sizeof c;
	ssize_t n = -1;

	if (buf != NULL && flexcast_getpeername(down, &c, &length) == 0 &&
	    flexcast_setsockopt(up, SOL_FLEXCAST, FLEXCAST_DOWNSTREAM, &down, sizeof down) == 0 &&
	    flexcast_connect(up, &c, sizeof c) == 0)
		while ((n = flexcast_recv(up, buf, 65536)) > 0)
			flexcast_send(down, buf, (size_t)n); /* EPIPE: the next recv tells */
	if (n < 0)
		perror("relay: a channel");
	flexcast_close(up);
	flexcast_close(down);
	free(buf);
	return NULL;
}

int main(void)
{
	struct flexcast_channel6 any = { IN6ADDR_ANY_INIT, 0 };
	int s = flexcast_socket(AF_INET6, SOCK_DGRAM, 0), on = 1, fd;
	pthread_t thread;

	if (flexcast_setsockopt(s, SOL_FLEXCAST, FLEXCAST_TRANSPARENT, &on, sizeof on) < 0 ||
	    flexcast_bind(s, &any, sizeof any) < 0 || flexcast_listen(s, 64) < 0)
		return fprintf(stderr, "relay: %s\n", flexcast_strerror(errno)), 1;
	while ((fd = flexcast_accept(s, NULL, NULL)) >= 0)
		if (pthread_create(&thread, NULL, pass, (void *)(intptr_t)fd) != 0)
			flexcast_close(fd);
		else
			pthread_detach(thread);
	return perror("relay: accept"), 1;
}
