"""Answers `OPTIONS`: the validation of webhooks of CloudEvents, and preflights of CORS. Neither starts anything.

Source: CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery", version 1.0.2, section 4 (abuse protection), which Azure
Event Grid performs, too; the Fetch standard, "CORS protocol".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from edge.http import responses
from edge.http.responses import Response
from flowhook.document.models.webhook import InboundEndpoint
from flowhook.signatures.types import RequestView

MAX_VALUE: Final = 1024  # bytes of a header field that is repeated in an answer

_ORIGIN: Final = re.compile(rb"[!-~]{1,%d}" % MAX_VALUE)
_NAMES: Final = re.compile(rb"[A-Za-z0-9!#$%%&'*+.^_`|~, -]{0,%d}" % MAX_VALUE)
_RATE: Final = re.compile(rb"[1-9][0-9]{0,9}")
_SECONDS: Final = 60  # rates of CloudEvents are per minute


class OptionsRequests:
    """The answers of one endpoint."""

    __slots__ = ("_allow", "_cors", "_max_age", "_methods", "_rate")

    def __init__(self, webhook: InboundEndpoint) -> None:
        self._methods = ", ".join(sorted(webhook.methods)).encode()
        self._allow = ", ".join(sorted({*webhook.methods, "HEAD", "OPTIONS"})).encode()
        self._rate = 0 if webhook.rate_limit is None else max(1, int(webhook.rate_limit.per_second * _SECONDS))
        self._cors = None if webhook.cors is None else frozenset(webhook.cors.origins)
        self._max_age = b"" if webhook.cors is None else b"%d" % int(webhook.cors.max_age)

    def answer(self, request: RequestView) -> Response | None:
        """Return the answer to a request of the method OPTIONS; None: it is neither of the two."""
        fields = dict(reversed(request.headers))  # of a field that is there twice, the first one
        asked = fields.get("webhook-request-origin", b"")
        if _ORIGIN.fullmatch(asked):
            found = [(b"Allow", self._allow), (b"WebHook-Allowed-Origin", asked)]
            wanted = fields.get("webhook-request-rate", b"")
            if wanted == b"*" or _RATE.fullmatch(wanted):
                found.append((b"WebHook-Allowed-Rate", self._allowed_rate(wanted)))
            return responses.build_response(200, found, b"")
        origin = allowed_origin(self._cors, request.headers)
        if origin is not None and "access-control-request-method" in fields:
            found = [
                (b"Access-Control-Allow-Origin", origin),
                (b"Access-Control-Allow-Methods", self._methods),
                (b"Access-Control-Max-Age", self._max_age),
                (b"Vary", b"Origin, Access-Control-Request-Headers"),
            ]
            names = fields.get("access-control-request-headers", b"")
            if names and _NAMES.fullmatch(names):
                found.append((b"Access-Control-Allow-Headers", names))
            return responses.build_response(204, found, b"")
        return None

    def _allowed_rate(self, wanted: bytes) -> bytes:
        if not self._rate:
            return b"*"
        return b"%d" % (self._rate if wanted == b"*" else min(self._rate, int(wanted)))


def allowed_origin(origins: frozenset[str] | None, headers: Sequence[tuple[str, bytes]]) -> bytes | None:
    """Return the value of Access-Control-Allow-Origin for a request; None: it is none of these origins."""
    if origins is None:
        return None
    if "*" in origins:
        return b"*"
    origin = next((value for name, value in headers if name == "origin"), b"")
    return origin if origin.decode("latin-1") in origins else None
