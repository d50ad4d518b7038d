"""The sender's side of a connection: its address, the scheme, and the names in its certificate.

Load balancers that see no HTTP report the address in the header of the PROXY protocol. That is off by default. When it
is on, a connection without the header is refused, because it may not come from the balancer.

Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, versions 1 and 2.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, NamedTuple

from tornado.httputil import HTTPConnection

from flowhook.http.listening import peer_address

MAX_LINE: Final = 107  # bytes of the header of version 1, its line end included
# Bytes after the fixed part of the header of version 2: addresses, and further data of the balancer.
MAX_ADDRESSES: Final = 2048
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = struct.Struct(">BBH")
_LOCAL, _PROXY = 0x20, 0x21
_IPV4, _IPV6 = 0x1, 0x2
_FIELDS: Final = 6


class Peer(NamedTuple):
    """The sender's side of a connection; the first two attributes have the names that Tornado's `context` has."""

    remote_ip: str  # its address as the socket, or the balancer, reports it
    protocol: str  # `https` over TLS, else `http`
    address: IPv4Address | IPv6Address  # its address; IPv4-mapped addresses as IPv4, without a scope ID
    client_names: tuple[str, ...] = ()  # names in its certificate, verified by TLS; empty without a certificate


def peer_of(connection: HTTPConnection) -> Peer:
    """Return the peer of a connection, like Tornado's HTTPServerRequest; Tornado's own name no certificates."""
    context = getattr(connection, "context", None)
    if isinstance(context, Peer):
        return context
    remote_ip = getattr(context, "remote_ip", "0.0.0.0")  # noqa: S104 - no socket is bound to it
    return Peer(remote_ip, getattr(context, "protocol", "http"), peer_address(remote_ip))


def certificate_names(certificate: Mapping[str, Any] | None, *, common_names: bool = False) -> tuple[str, ...]:
    """Return the names in a certificate as `SSLSocket.getpeercert` returns it; none without one.

    They are the alternative names. The subject's common name counts only in a certificate without any, unless
    `common_names`: authorities check the alternative names of what they sign, and not all of them the common name.

    Source: RFC 9525, section 2; RFC 6125, section 6.4.4.
    """
    found = certificate or {}
    alternatives = found.get("subjectAltName", ())
    names = [value for kind, value in alternatives if kind in ("DNS", "URI", "email")]
    if common_names or not alternatives:
        names += [value for part in found.get("subject", ()) for name, value in part if name == "commonName"]
    return tuple(dict.fromkeys(names))


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
