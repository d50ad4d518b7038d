"""The sender's side of a connection: its address, the scheme, and the names in its certificate."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from tornado.httputil import HTTPConnection

from flowhook.http.listening import peer_address


class Peer(NamedTuple):
    """The sender's side of a connection; the first two attributes have the names that Tornado's `context` has.

    Attributes:
        remote_ip: its address as the socket, or the balancer, reports it.
        protocol: `https` over TLS, else `http`.
        address: its address; IPv4-mapped addresses as IPv4, without a scope ID.
        client_names: names in its certificate, verified by TLS; empty without a certificate.
    """

    remote_ip: str
    protocol: str
    address: IPv4Address | IPv6Address
    client_names: tuple[str, ...] = ()


def peer_of(connection: HTTPConnection) -> Peer:
    """Return the peer of a connection; one of Tornado's own does not report names of certificates.

    Source: `tornado.httputil.HTTPServerRequest`, which reads the same attributes.
    """
    context = getattr(connection, "context", None)
    if isinstance(context, Peer):
        return context
    remote_ip = getattr(context, "remote_ip", "0.0.0.0")  # noqa: S104 - no socket is bound to it
    return Peer(remote_ip, getattr(context, "protocol", "http"), peer_address(remote_ip))
