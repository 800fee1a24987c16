#!/usr/bin/env python3
"""sender.py < FILE: sends standard input to all who ask this host for a channel.

Promises: as sender.c, which it is the twin of: the first channel that is asked for,
1316 bytes a datagram, not paced.
"""
import ctypes
import socket
import sys

from flexcast import call, channel

anything = channel("0.0.0.0", 0)
listener = call("socket", socket.AF_INET, socket.SOCK_DGRAM, 0)
call("bind", listener, ctypes.byref(anything), ctypes.sizeof(anything))
call("listen", listener, 5)
fd = call("accept", listener, None, None)
while chunk := sys.stdin.buffer.read(1316):
    call("send", fd, chunk, len(chunk))
call("close", fd)
call("close", listener)
