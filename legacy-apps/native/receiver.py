#!/usr/bin/env python3
"""receiver.py SENDER ID: asks for a channel and writes what comes to standard output.

Promises: as receiver.c, which it is the twin of; ends with the stream.
"""
import ctypes
import socket
import sys

from flexcast import call, channel

wanted = channel(sys.argv[1], int(sys.argv[2]))
fd = call("socket", socket.AF_INET, socket.SOCK_DGRAM, 0)
call("connect", fd, ctypes.byref(wanted), ctypes.sizeof(wanted))
buffer = ctypes.create_string_buffer(2048)
while (length := call("recv", fd, buffer, len(buffer))) > 0:
    sys.stdout.buffer.write(buffer.raw[:length])
call("close", fd)
