/* Asks SENDER for channel ID and writes what comes to standard output, to the stream's
   end. usage: receiver SENDER ID. Is the whole of a receiver: nothing is left out. */
#include <arpa/inet.h>
#include <flexcast.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	char buf[2048];
	ssize_t n;
	if (argc != 3)
		return fputs("usage: receiver SENDER ID\n", stderr), 2;
	struct flexcast_channel c = { inet_addr(argv[1]), strtoull(argv[2], NULL, 10) };
	int fd = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	if (flexcast_connect(fd, &c, sizeof c) < 0)
		return perror("receiver"), 1;
	while ((n = flexcast_recv(fd, buf, sizeof buf)) > 0)
		fwrite(buf, 1, (size_t)n, stdout);
	if (n < 0 || fflush(stdout) != 0)
		return perror("receiver"), 1;
	return flexcast_close(fd) < 0;
}
