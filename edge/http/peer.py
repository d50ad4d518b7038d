"""The sender's side of a connection: its address, the scheme, and the names in its certificate."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from tornado.httputil import HTTPConnection

from flowhook.http.listening import peer_address


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
