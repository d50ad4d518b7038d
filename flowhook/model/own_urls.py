"""URLs of flows' own (`webhook.path`, `webhook.host`), beside `/hook/<flow>`.

A URL is a host, or any if that is empty, and a path. A flow that takes suffixes, because it has callbacks or
`subpaths`, takes all paths below its own. No two flows have URLs that a request could be for at once: they are refused
when they are applied. So the flow of a request is found by looking up its path, and each path above it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

MAX_SEGMENTS: Final = 16  # segments of the path of a flow's own URL

T = TypeVar("T")


class OwnUrl(NamedTuple):
    """A URL of a flow's own."""

    host: str  # in lower case, without a port; empty: any
    path: str
    deeper: bool = False  # whether what is below the path belongs to the flow, too

    def takes(self, host: str, path: str) -> bool:
        """Whether a request to a host, in lower case and without a port, is for it."""
        return (not self.host or self.host == host) and (
            path == self.path or (self.deeper and path.startswith(below(self.path)))
        )

    def suffix(self, path: str) -> str | None:
        """Return what follows in the path of a request that it takes; None: nothing does."""
        return None if path == self.path else path[len(below(self.path)) :]

    def __str__(self) -> str:
        return f"{self.host}{self.path}"


def own_url_in(definition: Mapping[str, Any]) -> OwnUrl | None:
    """Return the URL of a flow's own, given a definition that was checked; None: it has none."""
    webhook = definition.get("webhook") or {}
    if webhook.get("path") is None and webhook.get("host") is None:
        return None
    deeper = bool(webhook.get("subpaths") or webhook.get("callbacks"))
    return OwnUrl((webhook.get("host") or "").lower(), webhook.get("path") or "/", deeper)


def shown_url(base: str, flow_id: str, own: OwnUrl | None) -> str:
    """Return the URL of a flow that is shown: its own, if it has one.

    `base` is the scheme, host and port that senders use, or empty: then the URL begins with the path, unless the flow
    says its host, which takes the place of the other.
    """
    if own is None:
        return f"{base}/hook/{flow_id}"
    return f"{base_at(base, own.host)}{own.path}"


def base_at(base: str, host: str) -> str:
    """Return scheme, host and port of URLs with another host; empty: the same one. `https` if `base` is empty."""
    if not host:
        return base
    scheme, _, authority = base.partition("://")
    port = authority[len(_without_port(authority)) :]
    return f"{scheme or 'https'}://{host}{port}"


def below(path: str) -> str:
    """Return what the paths below a path begin with."""
    return path if path.endswith("/") else f"{path}/"


def host_name(host: str) -> str:
    """Return the host of a request without its port, in lower case."""
    return _without_port(host).lower()


def _without_port(authority: str) -> str:
    name, colon, port = authority.rpartition(":")
    return name if colon and port.isdecimal() else authority


def find(urls: Mapping[tuple[str, str], T], host: str, path: str) -> Iterator[T]:
    """Yield what is known of the URLs that a request may be for, by host and path, the longest path first."""
    for each in upwards(path):
        for name in (host, ""):
            found = urls.get((name, each))
            if found is not None:
                yield found


def upwards(path: str) -> Iterator[str]:
    """Yield a path, then the paths above it, with and without `/` at their ends, that a flow may have."""
    yield path
    end = len(path)
    if path.count("/") > MAX_SEGMENTS:  # no URL of a flow has more
        end = len("/".join(path.split("/", MAX_SEGMENTS + 1)[: MAX_SEGMENTS + 1])) + 1
    while (end := path.rfind("/", 0, end)) >= 0:
        if path[: end + 1] != path:
            yield path[: end + 1]
        if end:
            yield path[:end]
