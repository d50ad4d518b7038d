"""The principal that an address belongs to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from flowhook.sharing.limit import Principal

# Bits of an IPv6 address that form the network prefix, which its owner can't choose (RFC 4291, section 2.5.4).
_NETWORK_BITS: Final = 64


def network_of(address: IPv4Address | IPv6Address) -> str:
    """Return what identifies the owner of an address: the address itself or, for IPv6, its network."""
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    return str(int(address) >> _NETWORK_BITS) if isinstance(address, IPv6Address) else str(address)


def address_principal(address: IPv4Address | IPv6Address) -> Principal:
    return Principal("address", network_of(address))
