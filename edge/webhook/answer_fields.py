"""Adds to the answers of an endpoint what its flow has a rate limit or CORS for.

Source: draft-ietf-httpapi-ratelimit-headers-10 (`RateLimit-Policy`, `RateLimit`); the Fetch standard, "CORS protocol".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from edge.webhook.options_requests import allowed_origin
from flowhook.document.models.webhook import InboundEndpoint, RateLimit

if TYPE_CHECKING:
    from edge.http.responses import Response
    from edge.webhook.stages import Delivery

MAX_INTEGER: Final = 999_999_999_999_999  # of structured fields (RFC 9651, section 3.3.1)

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
