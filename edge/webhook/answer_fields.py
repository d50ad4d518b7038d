"""HTTP header fields of an endpoint's answers (rate limit, CORS), and answers to `OPTIONS`, which start no execution.

Added is what its flow has a rate limit or CORS for. `OPTIONS` validates webhooks of CloudEvents, or is a preflight of
CORS.

Source: draft-ietf-httpapi-ratelimit-headers-10 (`RateLimit-Policy`, `RateLimit`); the Fetch standard, "CORS protocol";
CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery", version 1.0.2, section 4 (abuse protection), which Azure Event
Grid performs, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from edge.http import responses
from edge.http.responses import Response
from flowhook.document.models.webhook import InboundEndpoint, RateLimit
from flowhook.signatures.types import RequestView

if TYPE_CHECKING:
    from edge.webhook.stages import Delivery

MAX_INTEGER: Final = 999_999_999_999_999  # of structured fields (RFC 9651, section 3.3.1)

MAX_VALUE: Final = 1024  # bytes of a header field that is repeated in an answer

_ORIGIN: Final = re.compile(rb"[!-~]{1,%d}" % MAX_VALUE)
_NAMES: Final = re.compile(rb"[A-Za-z0-9!#$%%&'*+.^_`|~, -]{0,%d}" % MAX_VALUE)
_RATE: Final = re.compile(rb"[1-9][0-9]{0,9}")
_SECONDS: Final = 60  # rates of CloudEvents are per minute
# fields that programs in browsers may read beside the few that they always may
_EXPOSED: Final = b"Access-Control-Expose-Headers: Location, RateLimit, RateLimit-Policy, Retry-After\r\n"


class _Policy(NamedTuple):
    """One rate limit: a bucket that `burst` requests fill, and that is full again after so many seconds."""

    name: str
    burst: int
    per_second: float

    def field(self) -> str:
        return f'"{self.name}";q={self.burst};w={max(1, self._seconds(self.burst))}'

    def state(self, remaining: int) -> str:
        """Return what is left, and after how many seconds all of it is there again, or the first request may come."""
        missing = self.burst - remaining if remaining else 1
        return f'"{self.name}";r={remaining};t={self._seconds(missing)}'

    def _seconds(self, requests: int) -> int:
        """Return after what time so many requests are permitted again."""
        return math.ceil(min(requests / self.per_second, MAX_INTEGER))


class AnswerFields:
    """The fields of the answers of one endpoint."""

    __slots__ = ("_flow", "_origins", "_policy", "_sender")

    def __init__(self, webhook: InboundEndpoint) -> None:
        self._flow, self._sender = _policy("flow", webhook.rate_limit), _policy("sender", webhook.sender_rate_limit)
        given = [each.field() for each in (self._flow, self._sender) if each is not None]
        self._policy = f"RateLimit-Policy: {', '.join(given)}\r\n".encode() if given else b""
        self._origins = None if webhook.cors is None else frozenset(webhook.cors.origins)

    def added(self, answer: Response, delivery: Delivery) -> Response:
        """Return the answer with these fields."""
        fields = self._policy
        left = ((self._flow, delivery.flow_remaining), (self._sender, delivery.sender_remaining))
        states = [policy.state(count) for policy, count in left if policy is not None and count is not None]
        if states:
            fields += f"RateLimit: {', '.join(states)}\r\n".encode()
        if self._origins is not None and delivery.head.method != "OPTIONS":
            origin = allowed_origin(self._origins, delivery.head.headers)
            if origin is not None:
                fields += b"Access-Control-Allow-Origin: %b\r\n" % origin + _EXPOSED
            if origin != b"*":
                fields += b"Vary: Origin\r\n"
        return answer._replace(head=answer.head + fields)


def compile_fields(webhook: InboundEndpoint) -> AnswerFields | None:
    """Return the fields of an endpoint's answers; None: it has none."""
    given = (webhook.rate_limit, webhook.sender_rate_limit, webhook.cors)
    return AnswerFields(webhook) if any(each is not None for each in given) else None


def _policy(name: str, limit: RateLimit | None) -> _Policy | None:
    return None if limit is None else _Policy(name, limit.burst, limit.per_second)


class OptionsRequests:
    """The answers of one endpoint to `OPTIONS`."""

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
