"""Health checks at the port of senders: one word. `flowhook.process.status_server` has the details."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge.http.head import Head
from edge.http.responses import Response, build_response

_FIELDS: Final = ((b"Content-Type", b"text/plain; charset=utf-8"), (b"Cache-Control", b"no-store"))
ALIVE: Final = build_response(200, _FIELDS, b"ok\n")
READY: Final = build_response(200, _FIELDS, b"ready\n")
UNREADY: Final = build_response(503, _FIELDS, b"unready\n")


class HealthPaths:
    """Answers `healthz` (the edge runs) and `readyz` (it serves) below a path."""

    def __init__(self, prefix: str, lack: Callable[[], str]) -> None:
        """Answer below `prefix`, which ends with `/`; empty: nothing. `lack` returns why the edge does not serve."""
        self._alive = prefix and f"{prefix}healthz"
        self._ready = prefix and f"{prefix}readyz"
        self._lack = lack

    def answer(self, head: Head) -> Response | None:
        """Return the answer to a health check; None: the request is none."""
        if head.path not in (self._alive, self._ready) or head.method not in ("GET", "HEAD") or not head.path:
            return None
        answer = ALIVE if head.path == self._alive else UNREADY if self._lack() else READY
        return answer._replace(body=b"") if head.method == "HEAD" else answer
