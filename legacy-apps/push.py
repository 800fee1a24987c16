#!/usr/bin/env python3
"""push.py: sends the numbered stream, or a file in chunks, to a group.

Promises: only Python's plain `socket`; the same stream as push.c (an 8-byte
big-endian number, then filling). Is not aware of who receives, or how.
"""
import argparse
import itertools
import socket
import sys
import time

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("-s", "--size", type=int, default=1316)
parser.add_argument("-r", "--rate", type=float, default=100, help="datagrams a second; 0: flat out")
parser.add_argument("-n", "--count", type=int, default=0, help="0: for ever")
parser.add_argument("-f", "--file")
parser.add_argument("address")
parser.add_argument("port", type=int)
options = parser.parse_args()
if not options.file and options.size < 8:
    parser.error("--size: the numbered stream needs at least 8")

family, _, _, _, to = socket.getaddrinfo(options.address, options.port, type=socket.SOCK_DGRAM)[0]
sender = socket.socket(family, socket.SOCK_DGRAM)
if family == socket.AF_INET:
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4)
else:
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 4)


def payloads():
    """Each datagram's payload, in order."""
    if options.file:
        with open(options.file, "rb") as source:
            while chunk := source.read(options.size):
                yield chunk
    else:
        filling = bytes(i & 255 for i in range(8, options.size))
        for number in itertools.count():
            yield number.to_bytes(8, "big") + filling


start, sent = time.monotonic(), 0
for payload in itertools.islice(payloads(), options.count or None):
    if options.rate:
        early = start + sent / options.rate - time.monotonic()
        time.sleep(max(0, early))
        start += max(0, -early - 0.02)  # what was lost is not caught up: no bursts
    sender.sendto(payload, to)
    sent += 1
print(f"sent {sent}", file=sys.stderr)
