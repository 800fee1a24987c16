#!/usr/bin/env python3
"""crowd.py [--ask S:FP --channel GROUP:PORT] [--time] FIRST-PORT COUNT: many sockets that never read.

Each socket is bound to a port of its own from FIRST-PORT on; with --ask each asks for
the channel as forge.py's honest requester does. Prints "there are N" when all are
there (granted, with --ask), and stays until SIGTERM, then leaves. With --time the last one
reads what flood sends, and prints a line for each: how many nanoseconds after it was
given it came to this host, by the kernel's clock, and 1 where it came in one packet with
another, else 0.

Promises: takes no processor time while it stays (without --time), so that what a stream
costs is the fan-out's alone; one request lives 35 s. IPv4. Is not a receiver: its queues
overflow.
"""
import argparse
import collections
import os
import signal
import socket
import struct
import sys
import time

import forge

TIMESTAMPNS = 35  # SO_TIMESTAMPNS: when the kernel took it in, by the wall clock


def ask(sockets, to, channel):
    """Two round trips for all at once, repeated for those that heard nothing."""
    asked = {s: [int.from_bytes(os.urandom(8), "big"), (bytes(8), bytes(16)), False] for s in sockets}
    for sequence in range(1, 20):
        waiting = [s for s in sockets if not asked[s][2]]
        if not waiting:
            return asked
        for s in waiting:
            nonce, stamp, _ = asked[s]
            s.sendto(forge.request(to[0], channel, nonce, sequence, 0, *stamp), to)
        time.sleep(0.1)
        for s in waiting:
            while not asked[s][2]:
                try:
                    answer = s.recv(65536, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
                if answer[:3] != forge.MAGIC:
                    continue
                if answer[4] == forge.CHALLENGE:
                    asked[s][1] = answer[32:40], answer[48:64]
                elif answer[4] == forge.STATUS:
                    asked[s][2] = answer[48] == forge.GRANTED
    sys.exit("not all were granted")


def timed(sock):
    """Reads until SIGTERM: when each datagram was given, and when it came."""
    stopped, times = [], []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    sock.settimeout(0.1)
    while not stopped:
        try:
            payload, extra, _, _ = sock.recvmsg(65536, 64)
        except TimeoutError:
            continue
        stamps = [data for level, kind, data in extra if (level, kind) == (socket.SOL_SOCKET, TIMESTAMPNS)]
        if stamps and len(payload) > 1000:
            seconds, nanoseconds = struct.unpack("qq", stamps[0])
            times.append((int.from_bytes(payload[:8], "big"), seconds * 1_000_000_000 + nanoseconds))
    came = collections.Counter(at for _, at in times)
    for given, at in times:
        print(at - given, int(came[at] > 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ask", type=forge.address)
    parser.add_argument("--channel", type=forge.address)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(options.count)]
    for n, s in enumerate(sockets):
        s.bind(("0.0.0.0", options.first + n))
    asked = ask(sockets, options.ask, options.channel) if options.ask else {}
    if options.time:
        sockets[-1].setsockopt(socket.SOL_SOCKET, TIMESTAMPNS, 1)
    print(f"there are {len(sockets)}", flush=True)
    if options.time:
        timed(sockets[-1])
    else:
        signal.sigwait({signal.SIGTERM})
    for s, (nonce, stamp, _) in asked.items():
        leave = forge.request(options.ask[0], options.channel, nonce, 1000, forge.LEAVE, *stamp)
        s.sendto(leave, options.ask)


signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
main()
