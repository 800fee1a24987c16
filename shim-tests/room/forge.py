#!/usr/bin/env python3
"""forge.py: datagrams under somebody else's address, and one honest requester.

  forge.py stream  --as S:FP --to HOST:PORT [--token HEX [--kind data|end]] [-n N]
  forge.py request --as HOST:PORT --to S:FP --channel GROUP:PORT [--cookie] [--ports] [-n N]
  forge.py join    --to S:FP --channel GROUP:PORT

`stream` sends the body "FORGED" and padding, without a trailer where no token is given;
`request` asks for a channel, with a made-up cookie if told, each from a port of its own
with --ports (PORT and up); `join` is the control
of `request`: the same bytes from its own address, the challenge answered, and
"granted TOKEN" or the verdict's number printed; it leaves after a second.

Promises: raw sockets only for the forgeries; ends within 5 s. IPv4 only. Is not a
requester to build on: it knows just enough of src/wire to be let in.
"""
import argparse
import os
import socket
import struct
import sys
import time

MAGIC, VERSION = bytes.fromhex("f1eca5"), b"\1"
REQUEST, CHALLENGE, STATUS = 1, 3, 4
DATA, CONTROL, END = 1, 2, 3
GRANTED, LEAVE = 1, 1


def trailer(token, sequence, kind):
    return struct.pack("!QIB", token, sequence, kind) + MAGIC


def request(sender, channel, nonce, sequence, flags=0, node=bytes(8), cookie=bytes(16)):
    """A request as src/wire/src/request.rs draws it."""
    group, port = channel
    number = int.from_bytes(socket.inet_aton(group), "big") << 16 | port
    mapped = bytes(10) + b"\xff\xff" + socket.inet_aton(sender)
    header = MAGIC + VERSION + bytes([REQUEST, 0, 0, 0]) + struct.pack("!Q", number) + mapped
    header += bytes(8) + struct.pack("!II", sequence, 0)
    body = struct.pack("!IIQIBBBB", 35000, 1000, 0, 0, flags, 0, 32, 0)
    body += struct.pack("!QQIHH", 0, 2**64 - 1, 1, 0, 0)
    return header + body + node + cookie + bytes(24) + trailer(nonce, 0, CONTROL)


def raw_datagram(source, to, payload, ttl, tos):
    """IPv4 and UDP headers; the kernel fills in the header checksum, UDP's stays off."""
    udp = struct.pack("!HHHH", source[1], to[1], 8 + len(payload), 0)
    ip = struct.pack("!BBHHHBBH", 0x45, tos, 28 + len(payload), 0, 0, ttl, 17, 0)
    return ip + socket.inet_aton(source[0]) + socket.inet_aton(to[0]) + udp + payload


def forge(source, to, payloads, ttl, tos, ports=0):
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sent = 0
    for n, payload in enumerate(payloads):
        forged = source[0], source[1] + n * ports
        sent += raw.sendto(raw_datagram(forged, to, payload, ttl, tos), (to[0], 0))
        time.sleep(0.001)
    print(f"sent {sent} bytes")


def join(to, channel):
    """Two round trips, as protocol.md's "Joining" has it."""
    honest = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    honest.settimeout(1)
    nonce, stamp = int.from_bytes(os.urandom(8), "big"), (bytes(8), bytes(16))
    sequence, verdict, until = 0, None, time.monotonic() + 4
    while verdict != GRANTED and time.monotonic() < until:
        if verdict is None:
            sequence += 1
            honest.sendto(request(to[0], channel, nonce, sequence, 0, *stamp), to)
        try:
            answer = honest.recv(65536)
        except TimeoutError:
            continue
        if answer[:3] == MAGIC and answer[4] == CHALLENGE:
            stamp, verdict = (answer[32:40], answer[48:64]), None
        elif answer[:3] == MAGIC and answer[4] == STATUS:
            verdict, token = answer[48], answer[64:72].hex()
    if verdict != GRANTED:
        print(f"verdict {verdict}")
        return False
    print(f"granted {token}", flush=True)
    time.sleep(1)
    honest.sendto(request(to[0], channel, nonce, sequence + 1, LEAVE, *stamp), to)
    return True


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["stream", "request", "join"])
    parser.add_argument("--as", dest="source", type=address)
    parser.add_argument("--to", type=address, required=True)
    parser.add_argument("--channel", type=address)
    parser.add_argument("--token", help="hexadecimal")
    parser.add_argument("--kind", choices=["data", "end"], default="data")
    parser.add_argument("--cookie", action="store_true")
    parser.add_argument("--ports", action="store_true")
    parser.add_argument("-n", "--count", type=int, default=1)
    options = parser.parse_args()

    if options.what == "join":
        sys.exit(0 if join(options.to, options.channel) else 1)
    if options.what == "stream":
        body = b"" if options.kind == "end" else b"FORGED".ljust(1316, b"!")
        kind = END if options.kind == "end" else DATA
        payloads = (
            body + (trailer(int(options.token, 16), n, kind) if options.token else b"")
            for n in range(options.count)
        )
        forge(options.source, options.to, payloads, ttl=64, tos=0)
    else:
        payloads = (
            request(
                options.to[0], options.channel, int.from_bytes(os.urandom(8), "big"), n + 1, 0,
                *((os.urandom(8), os.urandom(16)) if options.cookie else ()),
            )
            for n in range(options.count)
        )
        forge(options.source, options.to, payloads, ttl=63, tos=0xC0, ports=options.ports)


if __name__ == "__main__":
    main()
