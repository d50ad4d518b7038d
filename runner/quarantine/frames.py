"""What is said to a process in quarantine and what it answers, as bytes over a blocking socket.

A frame is the length of what follows (u32, big-endian), then a kind (one byte), then parts, each with its length in
front of it. Whole documents and inputs pass through here, so that they are not encoded a second time.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

PROGRAM: Final = b"p"
"""Request: source of a jq program, input."""
SCHEMA: Final = b"s"
"""Request: JSON Schema, data."""
EVENT: Final = b"e"
"""Request: event (`convert.event_to_bytes`), what its input is made with (JSON), contents of attachments."""
RESULT: Final = b"r"
"""Response: CPU time in ns (u64, big-endian), result."""
NOTHING: Final = b"n"
"""Response: CPU time, and there is no result."""
READY: Final = b"1"
"""First of all, without parts: the process can be asked. Its name is the version of what is said from then on."""
FAILURE: Final = b"f"
"""Response: CPU time, message."""

CPU: Final = struct.Struct(">Q")
_LENGTH: Final = struct.Struct(">I")


def send(link: socket.socket, kind: bytes, *parts: bytes) -> None:
    """Send a frame. Blocking.

    Raises:
        OSError: the other end is gone.
    """
    body = [kind]
    for part in parts:
        body += (_LENGTH.pack(len(part)), part)
    link.sendall(b"".join((_LENGTH.pack(sum(map(len, body))), *body)))


def receive(link: socket.socket) -> tuple[bytes, list[bytes]]:
    """Return the kind and the parts of the next frame. Blocking.

    Raises:
        EOFError: the other end is gone.
    """
    (length,) = _LENGTH.unpack(_exactly(link, _LENGTH.size))
    body = memoryview(_exactly(link, length))
    parts, position = [], 1
    while position < length:
        (size,) = _LENGTH.unpack_from(body, position)
        position += _LENGTH.size
        parts.append(bytes(body[position : position + size]))
        position += size
    return bytes(body[:1]), parts


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
