"""flexcast.py: the calls of flexcast.h for Python, by ctypes.

Promises: a failed call is an OSError with its number. Is not a package: it shows what
a binding takes. Finds libflexcast.so.0 as the dynamic linker does.
"""
import ctypes
import os
import socket

library = ctypes.CDLL("libflexcast.so.0", use_errno=True)
library.flexcast_send.restype = library.flexcast_recv.restype = ctypes.c_ssize_t
library.flexcast_send.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
library.flexcast_recv.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]


class Channel(ctypes.Structure):
    """struct flexcast_channel"""

    _fields_ = [("ip", ctypes.c_uint32), ("id", ctypes.c_uint64)]


def channel(address, number):
    return Channel(int.from_bytes(socket.inet_aton(address), "little"), number)


def call(name, *arguments):
    result = getattr(library, "flexcast_" + name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result
