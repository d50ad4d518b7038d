"""Checks that a request names this process and comes from its own pages; pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

# an IPv6 address in brackets, or a name or IPv4 address; and a port, which is ignored: forwarding may change it
_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?")
# values of `Sec-Fetch-Site` of requests by own pages, and of those that the user made by hand
_OWN: Final = ("same-origin", "none")


def is_allowed_host(host: str | None, own_address: str, names: Collection[str]) -> bool:
    """Whether a request with this Host may be served, given the local address of its connection and configured names.

    An attacker who owns a name may have it resolve to this process's address once a page of that name is loaded, and
    the browser then lets the page read this process's responses as its own (DNS rebinding). The Host of such a request
    is that name, so unexpected names are refused. If Host is the address itself, no name was resolved. Without Host, as
    in HTTP/1.0, no browser sent the request. `names` are in lower case.

    Source: RFC 9110, section 15.5.20 (421); RFC 6761, section 6.3 (localhost);
    https://owasp.org/www-community/attacks/DNS_Rebinding
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


def is_same_origin(host: str | None, origin: str | None, fetch_site: str | None) -> bool:
    """Whether a request may change something, given Host, which is known to be a name of this process, and others.

    Browsers send `Origin` with every POST, and current ones `Sec-Fetch-Site`; pages can't forge either. Clients that
    are no browsers send neither: they have no session cookie that a foreign page could misuse. `Origin: null`, from a
    sandboxed frame for example, is refused. Schemes are not compared: behind a proxy that ends TLS, this process does
    not know its own.

    Source: RFC 6454, section 7 (Origin); https://www.w3.org/TR/fetch-metadata/ (Sec-Fetch-Site); OWASP, "Cross-Site
    Request Forgery Prevention Cheat Sheet", "Verifying Origin With Standard Headers".
    """
    if fetch_site is not None and fetch_site not in _OWN:
        return False
    own = (host or "").lower()
    return origin is None or (bool(own) and origin.lower() in (f"http://{own}", f"https://{own}"))


def is_embedded_elsewhere(fetch_site: str | None, fetch_mode: str | None, fetch_dest: str | None) -> bool:
    """Whether a page of another origin fetches or embeds what is requested, rather than links to it.

    It can't read the response, but each request costs something, and a stream takes the place of another. Pages on
    other ports of this host, or on other hosts of its domain, are of the same site: browsers send the cookie for them.

    Source: https://web.dev/articles/fetch-metadata ("Resource Isolation Policy").
    """
    if fetch_site is None or fetch_site in _OWN:
        return False
    return fetch_mode != "navigate" or fetch_dest not in (None, "document")
