"""By which names this process may be called: a page of somebody else's must not reach it by a name of its own; pure.

A browser lets a page read what comes from the page's own origin. Whoever owns a name may have it resolve to this
process's address once the page is loaded, and the browser takes the answers for the page's own (DNS rebinding). The
Host of such a request is that name, so any that is not expected is refused. Where the address itself is in Host, no
name was resolved.

Source: RFC 9110, section 15.5.20 (421); RFC 6761, section 6.3 (localhost);
https://owasp.org/www-community/attacks/DNS_Rebinding
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?")
"""An address of IPv6, or a name or address of IPv4; and a port, which forwarding may change."""


def is_expected(host: str | None, own_address: str, names: Collection[str]) -> bool:
    """Whether a request may be answered.

    Args:
        host: its header; None: there is none, as in HTTP/1.0, which no browser speaks.
        own_address: that its connection was accepted on.
        names: lower-case names, and addresses, that were configured.
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
    """Return an address; IPv4-mapped ones as IPv4, scope IDs dropped."""
    address = ip_address(text.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
