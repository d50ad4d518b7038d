"""Address policy for outbound connections: only public IP addresses, unless private ones are allowed.

The policy is applied after DNS resolution, to the address that a socket is about to connect to. Neither a name, nor a
literal, nor an unusual notation bypasses it.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any, Final

POLICY: Final = (
    "the address is not allowed (private, loopback, link-local or reserved); "
    "--allow-private-addresses or FLOWHOOK_ALLOW_PRIVATE_ADDRESSES=true allows it"
)

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.ip_network("64:ff9b:1::/48")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def open_socket(info: tuple[Any, ...], *, allow_private_addresses: bool) -> socket.socket:
    """Create a socket for connecting to an address, an entry of `getaddrinfo`, after checking it against the policy.

    Raises:
        OSError: the policy does not allow the address (`POLICY`), or the process can't open another socket.
    """
    family, kind, protocol, _, address = info
    if not allow_private_addresses and not is_public(ipaddress.ip_address(address[0].partition("%")[0])):
        raise OSError(errno.EACCES, POLICY)
    return socket.socket(family, kind, protocol)


def is_policy_error(problem: BaseException) -> bool:
    """Whether a connection failed because the policy allows none of the addresses: retrying changes nothing."""
    return isinstance(problem, OSError) and problem.errno == errno.EACCES and POLICY in str(problem)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public Internet; IPv6 addresses that embed an IPv4 one are judged by that.

    Source: IANA special-purpose address registries, as in Python's `ipaddress`; RFC 6052 (NAT64), RFC 3056 (6to4).
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and (address in _NAT64 or int(address) >> 32 == 0):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address in _NAT64_LOCAL or address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
