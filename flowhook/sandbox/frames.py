"""Length-prefixed frames on a byte stream: a kind and binary parts, which need no further encoding.

A frame is the length of the rest (u32, big-endian), then a kind (one byte), then parts, each prefixed with its length.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

# First frame, without parts: the process is ready for requests. The kind is the version of the protocol.
READY: Final = b"1"

LENGTH: Final = struct.Struct(">I")


def encode(kind: bytes, *parts: bytes) -> bytes:
    body = [kind]
    for part in parts:
        body += (LENGTH.pack(len(part)), part)
    return b"".join((LENGTH.pack(sum(map(len, body))), *body))


def decode(body: bytes | bytearray) -> tuple[bytes, list[bytes]]:
    """Return the kind and the parts of a frame, given the bytes after its length."""
    view = memoryview(body)
    parts, position = [], 1
    while position < len(view):
        (size,) = LENGTH.unpack_from(view, position)
        position += LENGTH.size
        parts.append(bytes(view[position : position + size]))
        position += size
    return bytes(view[:1]), parts


def receive(link: socket.socket) -> tuple[bytes, list[bytes]]:
    """Receive the next frame and return its kind and parts; `EOFError` if the peer closed the connection. Blocking."""
    (length,) = LENGTH.unpack(_exactly(link, LENGTH.size))
    return decode(_exactly(link, length))


async def read(reader: asyncio.StreamReader) -> tuple[bytes, list[bytes]]:
    """Do the same on a stream; `EOFError` or `OSError` if the peer closed the connection."""
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return decode(await reader.readexactly(length))


def _exactly(link: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        try:
            count = link.recv_into(view[done:])
        except OSError:
            count = 0
        if not count:
            raise EOFError("the other end is gone")
        done += count
    return data
