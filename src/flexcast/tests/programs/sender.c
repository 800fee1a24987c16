/* Accepts the first channel that is asked for (or only ID), waits for an audience of N,
   and sends it COUNT datagrams; says "listening" when it does. usage: sender N COUNT [ID];
   compiles as C11 and as C++17. */
#include <flexcast.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned long audience(int fd)
{
	socklen_t size = 0;
	if (flexcast_getsockopt(fd, SOL_FLEXCAST, FLEXCAST_REQUESTERS, NULL, &size) < 0)
		return 0;
	return size / sizeof(struct flexcast_requester);
}

int main(int argc, char **argv)
{
	if (argc != 3 && argc != 4)
		return 2;
	unsigned long wanted = strtoul(argv[1], NULL, 10);
	unsigned long count = strtoul(argv[2], NULL, 10);
	struct flexcast_channel any = { INADDR_ANY, argc == 4 ? strtoull(argv[3], NULL, 10) : 0 };
	int s = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	if (flexcast_bind(s, &any, sizeof any) < 0 || flexcast_listen(s, 5) < 0) {
		perror("listen");
		return 1;
	}
	puts("listening");
	fflush(stdout);
	int fd = flexcast_accept(s, NULL, NULL);
	if (fd < 0) {
		perror("accept");
		return 1;
	}
	struct timespec pause = { 0, 1000000 };
	while (audience(fd) < wanted)
		nanosleep(&pause, NULL);
	for (unsigned long n = 0; n < count; n++) {
		char buffer[64];
		int length = snprintf(buffer, sizeof buffer, "%lu", n) + 1;
		if (flexcast_send(fd, buffer, (size_t)length) != length) {
			perror("send");
			return 1;
		}
		if (n % 20 == 0) {
			pause.tv_nsec = 200000;
			nanosleep(&pause, NULL);
		}
	}
	return flexcast_close(fd) < 0 || flexcast_close(s) < 0;
}
