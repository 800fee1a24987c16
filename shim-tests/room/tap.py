#!/usr/bin/env python3
"""tap.py INTERFACE FP SIZE: what the stream's datagrams are on one link.

One line for each datagram from port FP without a traffic class, as it arrives:
`SHA256 LAST8` (of the whole payload of UDP, and its last 8 bytes, in hexadecimal). A
segmented send passes a veth as one packet: it is cut into datagrams of SIZE bytes.

Promises: sees each packet that arrives, changes none; "listening" on standard
error when it does. Ends on SIGTERM. IPv4, not fragmented. Is not a counter: nftables is.
"""
import hashlib
import signal
import socket
import struct
import sys

ETH_P_IP = 0x0800
interface, fp, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
tap.bind((interface, ETH_P_IP))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("listening", file=sys.stderr, flush=True)

while True:
    packet, (_, _, direction, _, _) = tap.recvfrom(1 << 16)
    header = (packet[0] & 15) * 4
    if direction == socket.PACKET_OUTGOING or packet[9] != socket.IPPROTO_UDP or packet[1]:
        continue
    source, _, length, _ = struct.unpack("!HHHH", packet[header : header + 8])
    if source != fp:
        continue
    payload = packet[header + 8 : struct.unpack("!H", packet[2:4])[0]]
    for at in range(0, len(payload), size):
        datagram = payload[at : at + size]
        print(hashlib.sha256(datagram).hexdigest(), datagram[-8:].hex(), flush=True)
