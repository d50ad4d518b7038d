"""Checks the Host header of requests against DNS rebinding; pure.

A browser lets a page read responses of the page's own origin. An attacker who owns a name may have it resolve to this
process's address once the page is loaded, and the browser then treats the responses as the page's own (DNS rebinding).
The Host of such a request is that name, so unexpected names are refused. If Host is the address itself, no name was
resolved.

Source: RFC 9110, section 15.5.20 (421); RFC 6761, section 6.3 (localhost);
https://owasp.org/www-community/attacks/DNS_Rebinding
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

# an IPv6 address in brackets, or a name or IPv4 address; and a port, which is ignored: forwarding may change it
_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?")


def is_allowed_host(host: str | None, own_address: str, names: Collection[str]) -> bool:
    """Whether a request with this Host may be served.

    Args:
        host: value of Host; None: the header is absent, as in HTTP/1.0, which no browser speaks.
        own_address: local address of its connection.
        names: configured names (in lower case) and addresses.
    """
    if host is None:
        return True
    match = _AUTHORITY.fullmatch(host)
    if match is None:
        return False
    name = (match[1] or match[2]).lower().removesuffix(".")
    if name == "localhost" or name in names:
        return True
    try:
        address = _plain(name)
        return address.is_loopback or address == _plain(own_address)
    except ValueError:
        return False


def _plain(text: str) -> IPv4Address | IPv6Address:
    """Parse an address; IPv4-mapped addresses become IPv4, scope IDs are dropped."""
    address = ip_address(text.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
