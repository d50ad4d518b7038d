"""Addresses of clients."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def peer_address(peer: str) -> IPv4Address | IPv6Address:
    """Parse a peer's address as sockets report it; IPv4-mapped addresses become IPv4, scope IDs are dropped."""
    address = ip_address(peer.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
