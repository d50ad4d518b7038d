"""Parses bodies as JSON before they are verified, where they contain the signature or related values.

The sender determines the cost of parsing, and nothing else runs meanwhile: not even other threads. So a body is parsed
once for all readers (`RequestView.json`). A body that is larger than `MAX_JSON_BYTES` is only parsed if the flow's own
`max_body` allows it, and never if it has more than `MAX_VALUES` values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.json.bounded import check_value_count, load_json

if TYPE_CHECKING:
    from flowhook.signatures.types import RequestView, Verifier

MAX_JSON_BYTES: Final = 1 * limits.MIB
"""Maximum size of a body, unless a flow allows more: parsed within some 35 ms, whatever its content."""

MAX_VALUES: Final = 300_000
"""Maximum number of values in a larger body: with 16 MiB of strings, counted and parsed within some 200 ms."""


class JsonBody:
    """A body as JSON, parsed on first use; parsed again if it is asked for another body.

    Belongs to one request; not thread-safe.
    """

    __slots__ = ("_body", "_max_bytes", "_max_values", "_value")

    def __init__(self, max_bytes: int = MAX_JSON_BYTES, max_values: int = MAX_VALUES) -> None:
        """Set the limits of `read_json`."""
        self._max_bytes = max_bytes
        self._max_values = max_values
        self._body: bytes | None = None
        self._value: Any = None

    @classmethod
    def known(cls, body: bytes, value: Any) -> JsonBody:
        """Return an instance for a body that has already been parsed."""
        known = cls()
        known._body, known._value = body, value
        return known

    def of(self, body: bytes) -> Any:
        """Return the value of a body; None if it is not JSON, or exceeds the limits."""
        if self._body is not body:
            self._value = read_json(body, self._max_bytes, self._max_values)
            self._body = body
        return self._value


def read_json(body: bytes, max_bytes: int = MAX_JSON_BYTES, max_values: int = MAX_VALUES) -> Any:
    """Return the value of a body as JSON; None if it is not JSON, or exceeds the limits. Never raises.

    Args:
        body: as received.
        max_bytes: maximum size of the body.
        max_values: maximum number of values in a body that is larger than `MAX_JSON_BYTES`.
    """
    if len(body) > max_bytes:
        return None
    try:
        if len(body) > MAX_JSON_BYTES:
            check_value_count(body, max_values)
        return load_json(body)
    except (InvalidError, orjson.JSONDecodeError):
        return None


def json_of(request: RequestView) -> Any:
    """Return the JSON value of the body of a request, as `read_json` does; parsed once if the request has `json`."""
    return read_json(request.body) if request.json is None else request.json.of(request.body)


def reads_json(verifier: Verifier) -> bool:
    """Whether a verifier parses bodies as JSON, to find a signature or related values."""
    return bool(getattr(verifier, "reads_json", False))
