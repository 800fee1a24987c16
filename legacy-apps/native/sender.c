/* Waits until somebody asks this host for a channel, whichever, and sends standard input
   to all who do, 1316 bytes a datagram. usage: sender < FILE. Is the whole of a sender:
   it does not know how many listen, and does not pace itself. */
#include <flexcast.h>
#include <stdio.h>

int main(void)
{
	char buf[1316];
	size_t n;
	struct flexcast_channel any = { INADDR_ANY, 0 };
	int s = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	if (flexcast_bind(s, &any, sizeof any) < 0 || flexcast_listen(s, 5) < 0)
		return perror("sender"), 1;
	int fd = flexcast_accept(s, NULL, NULL);
	if (fd < 0)
		return perror("sender"), 1;
	while ((n = fread(buf, 1, sizeof buf, stdin)) > 0)
		if (flexcast_send(fd, buf, n) < 0)
			return perror("sender"), 1;
	return flexcast_close(fd) < 0 || flexcast_close(s) < 0;
}
