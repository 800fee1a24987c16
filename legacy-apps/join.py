#!/usr/bin/env python3
"""join.py: joins a group and writes its payloads to a file.

Promises: only Python's plain `socket`; ends after COUNT datagrams, after
SECONDS without one (once one came), or on SIGTERM. Is not a checker: join -k is.
"""
import argparse
import signal
import socket
import struct
import sys
import time

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("-o", "--output", required=True)
parser.add_argument("-w", "--idle", type=float, default=0, metavar="SECONDS")
parser.add_argument("-n", "--count", type=int, default=0)
parser.add_argument("-b", "--rcvbuf", type=int, default=0)
parser.add_argument("-i", "--interface", default="", help="default: as the routes say")
parser.add_argument("group")
parser.add_argument("port", type=int)
options = parser.parse_args()

family, _, _, _, at = socket.getaddrinfo(options.group, options.port, type=socket.SOCK_DGRAM)[0]
receiver = socket.socket(family, socket.SOCK_DGRAM)
receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if options.rcvbuf:
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.rcvbuf)
receiver.bind(at)
index = socket.if_nametoindex(options.interface) if options.interface else 0
packed = socket.inet_pton(family, options.group)
if family == socket.AF_INET:
    request = packed + struct.pack("=4sI", socket.inet_aton("0.0.0.0"), index)
    receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
else:
    request = packed + struct.pack("=I", index)
    receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
receiver.settimeout(0.2)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("joined", file=sys.stderr, flush=True)

received, latest = 0, None
with open(options.output, "wb") as output:
    while not options.count or received < options.count:
        try:
            output.write(receiver.recv(65536))
        except TimeoutError:
            if options.idle and latest and time.monotonic() - latest >= options.idle:
                break
            continue
        received, latest = received + 1, time.monotonic()
print(f"received {received}", file=sys.stderr)
