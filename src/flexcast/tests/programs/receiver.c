/* Receives a channel to its end: writes how many datagrams, and what was lost.
   usage: receiver ADDRESS ID; compiles as C11 and as C++17. */
#include <arpa/inet.h>
#include <flexcast.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	in_addr_t ip = inet_addr(argv[1]);
	uint64_t id = strtoull(argv[2], NULL, 10);
	struct flexcast_channel c = { ip, id };
	int fd = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	int room = 4 << 20;
	flexcast_setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
	if (flexcast_connect(fd, &c, sizeof c) < 0) {
		perror("connect");
		return 1;
	}
	char buffer[2048];
	ssize_t length;
	unsigned long count = 0, wrong = 0;
	while ((length = flexcast_recv(fd, buffer, sizeof buffer)) > 0) {
		if (strtoul(buffer, NULL, 10) != count)
			wrong++;
		count++;
	}
	if (length < 0)
		perror("recv");
	struct flexcast_stats stats;
	socklen_t size = sizeof stats;
	if (flexcast_getsockopt(fd, SOL_FLEXCAST, FLEXCAST_STATS, &stats, &size) < 0)
		perror("stats");
	printf("%lu %lu %lu %lu\n", count, wrong, (unsigned long)stats.lost,
	       (unsigned long)stats.duplicates);
	return flexcast_close(fd) < 0;
}
