"""Checks that a request was sent by a page of this process, against requests that other pages make; pure.

Browsers send `Origin` with every POST, and current ones `Sec-Fetch-Site`; pages can't forge either. Clients that are no
browsers send neither: they have no session cookie that a foreign page could misuse.

Source: RFC 6454, section 7 (Origin); https://www.w3.org/TR/fetch-metadata/ (Sec-Fetch-Site); OWASP, "Cross-Site Request
Forgery Prevention Cheat Sheet", "Verifying Origin With Standard Headers".
"""

from __future__ import annotations

from typing import Final

# values of `Sec-Fetch-Site` of requests by own pages, and of those that the user made by hand
_OWN: Final = ("same-origin", "none")


def is_same_origin(host: str | None, origin: str | None, fetch_site: str | None) -> bool:
    """Whether a request may change something.

    Schemes are not compared: behind a proxy that ends TLS, this process does not know its own.

    Args:
        host: value of Host, which is known to be a name of this process.
        origin: value of Origin, if there is one. `null` (from a sandboxed frame, for example) is refused.
        fetch_site: value of Sec-Fetch-Site, if there is one.
    """
    if fetch_site is not None and fetch_site not in _OWN:
        return False
    own = (host or "").lower()
    return origin is None or (bool(own) and origin.lower() in (f"http://{own}", f"https://{own}"))


def is_embedded_elsewhere(fetch_site: str | None, fetch_mode: str | None, fetch_dest: str | None) -> bool:
    """Whether a page of another origin fetches or embeds what is requested, rather than links to it.

    It can't read the response, but each request costs something, and a stream takes the place of another. Pages on
    other ports of this host, or on other hosts of its domain, are of the same site: browsers send the cookie for them.

    Args:
        fetch_site: value of Sec-Fetch-Site, if there is one.
        fetch_mode: value of Sec-Fetch-Mode, if there is one.
        fetch_dest: value of Sec-Fetch-Dest, if there is one.

    Source: https://web.dev/articles/fetch-metadata ("Resource Isolation Policy").
    """
    if fetch_site is None or fetch_site in _OWN:
        return False
    return fetch_mode != "navigate" or fetch_dest not in (None, "document")
