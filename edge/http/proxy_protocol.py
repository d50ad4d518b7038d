"""Parses the PROXY protocol header, in which load balancers that see no HTTP report a connection's sender.

Off by default. When it is on, a connection without the header is refused, because it may not come from the balancer.

Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, versions 1 and 2.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

MAX_LINE: Final = 107  # bytes of the header of version 1, its line end included
# Bytes after the fixed part of the header of version 2: addresses, and further data of the balancer.
MAX_ADDRESSES: Final = 2048
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = struct.Struct(">BBH")
_LOCAL, _PROXY = 0x20, 0x21
_IPV4, _IPV6 = 0x1, 0x2
_FIELDS: Final = 6

Read = Callable[[int], Awaitable[bytes]]
"""Returns exactly the given number of bytes of the connection; raises OSError or EOFError."""


class ProxyProtocolError(Exception):
    """The connection does not begin with a header of the protocol."""


async def read_header(read: Read) -> IPv4Address | IPv6Address | None:
    """Return the sender's address, None if the header names none; raises ProxyProtocolError, or as `read` does."""
    start = await read(len(_SIGNATURE))
    if start == _SIGNATURE:
        return await _binary(read)
    if not start.startswith(b"PROXY "):
        raise ProxyProtocolError
    line = start
    while not line.endswith(b"\r\n"):
        if len(line) >= MAX_LINE:
            raise ProxyProtocolError
        line += await read(1)
    return _text(line)


def _text(line: bytes) -> IPv4Address | IPv6Address | None:
    fields = line[:-2].split(b" ")
    if fields[1:2] == [b"UNKNOWN"]:
        return None
    if len(fields) != _FIELDS or fields[1] not in (b"TCP4", b"TCP6"):
        raise ProxyProtocolError
    try:
        return ip_address(fields[2].decode("ascii"))
    except ValueError:
        raise ProxyProtocolError from None


async def _binary(read: Read) -> IPv4Address | IPv6Address | None:
    command, family, length = _FIXED.unpack(await read(_FIXED.size))
    if length > MAX_ADDRESSES or command not in (_LOCAL, _PROXY):
        raise ProxyProtocolError
    addresses = await read(length) if length else b""
    if command == _LOCAL:
        return None
    size = {_IPV4: 4, _IPV6: 16}.get(family >> 4, 0)
    if size and length < 2 * size + 4:
        raise ProxyProtocolError
    return ip_address(addresses[:size]) if size else None
