"""One end of a test network: UDP sockets driven by lines on standard input.

  open NAME ADDRESS PORT [transparent]      -> ok
  send NAME ADDRESS PORT HEX [SOURCE]       -> ok | errno N
  receive NAME SECONDS                      -> FROM PORT TO HEX | nothing | errno N

SOURCE and TO are the foreign addresses that a transparent socket sends from
and learns. It ends with its input. For tests alone.
"""
import errno
import ipaddress
import select
import socket
import sys

IP_TRANSPARENT, IPV6_TRANSPARENT, IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 19, 75, 8, 49, 50
IP_RECVERR, IPV6_RECVERR, IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 11, 25, 10, 0
RECVERR = [(socket.SOL_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)]
sockets = {}


def plain(address):
    address = ipaddress.ip_address(address)
    return str(getattr(address, "ipv4_mapped", None) or address)


def open_socket(name, address, port, transparent=None):
    six = ":" in address
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    if six:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if transparent:
        s.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        s.setsockopt(socket.SOL_IP, IP_PKTINFO, 1)
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        s.setsockopt(socket.SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        s.setsockopt(socket.SOL_IP, IP_RECVERR, 1)
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    s.setblocking(False)
    s.bind((address, int(port)))
    sockets[name] = s
    return "ok"


def send(name, address, port, data, source=None):
    s = sockets[name]
    ancillary = []
    if s.family == socket.AF_INET6 and ":" not in address:
        address = "::ffff:" + address
    if source:
        mapped = source if ":" in source else "::ffff:" + source
        info = ipaddress.ip_address(mapped).packed + bytes(4)
        ancillary = [(socket.IPPROTO_IPV6, IPV6_PKTINFO, info)]
    s.sendmsg([bytes.fromhex(data)], ancillary, 0, (address, int(port)))
    return "ok"


def receive(name, seconds):
    s = sockets[name]
    if not select.select([s], [], [], float(seconds))[0]:
        return "nothing"
    try:  # an ICMP error: struct sock_extended_err begins with its errno
        _, ancillary, _, _ = s.recvmsg(1, 512, socket.MSG_ERRQUEUE)
        s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        codes = [v for level, kind, v in ancillary if (level, kind) in RECVERR]
        return "errno " + errno.errorcode[int.from_bytes(codes[0][:4], sys.byteorder)]
    except BlockingIOError:
        pass
    data, ancillary, _, source = s.recvmsg(65536, 512)
    to = "-"
    for level, kind, value in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
            to = plain(value[:16])
        if (level, kind) == (socket.SOL_IP, IP_PKTINFO):
            to = plain(value[8:12])
    return f"{plain(source[0])} {source[1]} {to} {data.hex()}"


COMMANDS = {"open": open_socket, "send": send, "receive": receive}
for line in sys.stdin:
    command, *arguments = line.split()
    try:
        answer = COMMANDS[command](*arguments)
    except OSError as error:
        answer = "errno " + errno.errorcode.get(error.errno, str(error.errno))
    print(answer, flush=True)
