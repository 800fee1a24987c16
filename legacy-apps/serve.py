#!/usr/bin/env python3
"""serve.py: a server as datagram clients know them: it waits for a hello, and sends.

    serve.py [-f FILE] [-s SIZE] [-r RATE] ADDRESS PORT

Sends FILE, SIZE bytes a datagram and RATE datagrams a second, to the first client that
says hello, then an empty datagram, and ends. Without -f it sends nothing, and goes on
listening. Prints each hello: "TEXT from HOST PORT". Is the plain counterpart of call.c: it
serves one client, by a copy of its own.
"""

import argparse
import socket
import time

parser = argparse.ArgumentParser()
parser.add_argument("-f", dest="file")
parser.add_argument("-s", dest="size", type=int, default=1316)
parser.add_argument("-r", dest="rate", type=float, default=100)
parser.add_argument("address")
parser.add_argument("port", type=int)
options = parser.parse_args()

family, kind, protocol, _, at = socket.getaddrinfo(
    options.address, options.port, type=socket.SOCK_DGRAM
)[0]
server = socket.socket(family, kind, protocol)
server.bind(at)
while True:
    text, client = server.recvfrom(2048)
    print(f"{text.decode()} from {client[0]} {client[1]}", flush=True)
    if options.file:
        break
with open(options.file, "rb") as source:
    due = time.monotonic()
    while chunk := source.read(options.size):
        due += 1 / options.rate
        time.sleep(max(0, due - time.monotonic()))
        server.sendto(chunk, client)
server.sendto(b"", client)
