"""Address policy for outbound connections: only public IP addresses, unless others are allowed.

The policy is applied after DNS resolution, to the address that a socket is about to connect to. Neither a name, nor a
literal, nor an unusual notation bypasses it.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from enum import Enum
from typing import Any, Final

POLICY: Final = (
    "the address is not allowed (private, loopback, link-local or reserved); "
    "--allow-private-addresses or FLOWHOOK_ALLOW_PRIVATE_ADDRESSES=true allows it"
)

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.ip_network("64:ff9b:1::/48")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressPolicy(Enum):
    """Which addresses may be reached besides public ones."""

    PUBLIC = "public"  # none
    LOOPBACK = "loopback"  # those of this machine (127.0.0.0/8, ::1): what flows call while they are written
    ALL = "all"  # any

    @classmethod
    def of(cls, *, private: bool, loopback: bool) -> AddressPolicy:
        """Return the policy that settings describe; private addresses include loopback ones."""
        if private:
            return cls.ALL
        return cls.LOOPBACK if loopback else cls.PUBLIC

    def permits(self, address: Address) -> bool:
        if self is AddressPolicy.ALL or is_public(address):
            return True
        return self is AddressPolicy.LOOPBACK and is_loopback(address)


def open_socket(info: tuple[Any, ...], policy: AddressPolicy) -> socket.socket:
    """Create a socket for connecting to an address, an entry of `getaddrinfo`, after checking it against the policy.

    Raises:
        OSError: the policy does not allow the address (`POLICY`), or the process can't open another socket.
    """
    family, kind, protocol, _, address = info
    if not policy.permits(ipaddress.ip_address(address[0].partition("%")[0])):
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


def is_loopback(address: Address) -> bool:
    """Whether an address is one of this machine that no other machine reaches."""
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (inner or address).is_loopback
