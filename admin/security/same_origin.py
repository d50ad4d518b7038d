"""Checks that a request was sent by a page of this process, against cross-site request forgery; pure.

Browsers send `Origin` with every POST, and current ones `Sec-Fetch-Site`; pages can't forge either. Clients that are no
browsers send neither: they have no session cookie that a foreign page could misuse.

Source: RFC 6454, section 7 (Origin); https://www.w3.org/TR/fetch-metadata/ (Sec-Fetch-Site); OWASP, "Cross-Site Request
Forgery Prevention Cheat Sheet", "Verifying Origin With Standard Headers".
"""

from __future__ import annotations

from typing import Final

_OWN: Final = ("same-origin", "none")
"""Values of `Sec-Fetch-Site` of requests by own pages, and of those that the user made by hand."""


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
