"""Bodies that are read as JSON before it is known whose they are: the signature, or what belongs to it, stands there.

What it takes to read one is the sender's to choose, and nothing else runs meanwhile: not even other threads. So a body
is read once for all that look at it (`RequestView.json`), one that is larger than `MAX_JSON_BYTES` only where a flow
says so by its own `max_body`, and a larger one of more than `MAX_VALUES` values never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.payloads.json_values import check_values

if TYPE_CHECKING:
    from flowhook.signatures.types import RequestView, Verifier

MAX_JSON_BYTES: Final = 1 * limits.MIB
"""Of a body, unless a flow allows for more: read within some 35 ms, whatever it is."""

MAX_VALUES: Final = 300_000
"""Of a larger one: with the texts of 16 MiB, it is counted and read within some 200 ms."""


class JsonBody:
    """A body as JSON, read when it is first asked for; of one that a request does not have any more, nothing is told.

    Belongs to one request; not for several threads at a time.
    """

    __slots__ = ("_body", "_max_bytes", "_max_values", "_value")

    def __init__(self, max_bytes: int = MAX_JSON_BYTES, max_values: int = MAX_VALUES) -> None:
        """Read what `read_json` does within these limits."""
        self._max_bytes = max_bytes
        self._max_values = max_values
        self._body: bytes | None = None
        self._value: Any = None

    @classmethod
    def known(cls, body: bytes, value: Any) -> JsonBody:
        """Return a body with what it says, which was read already."""
        known = cls()
        known._body, known._value = body, value
        return known

    def of(self, body: bytes) -> Any:
        """Return what a body says; None when it is no JSON, or too much of it."""
        if self._body is not body:
            self._value = read_json(body, self._max_bytes, self._max_values)
            self._body = body
        return self._value


def read_json(body: bytes, max_bytes: int = MAX_JSON_BYTES, max_values: int = MAX_VALUES) -> Any:
    """Return what a body says as JSON; None when it is none, or too much of it. Never raises.

    Args:
        body: as received.
        max_bytes: that it may have.
        max_values: that it may have where it is larger than `MAX_JSON_BYTES`.
    """
    if len(body) > max_bytes:
        return None
    try:
        if len(body) > MAX_JSON_BYTES:
            check_values(body, max_values)
        return orjson.loads(body)
    except (InvalidError, orjson.JSONDecodeError):
        return None


def json_of(request: RequestView) -> Any:
    """Return what the body of a request says as JSON, as `read_json` does; read once where the request has `json`."""
    return read_json(request.body) if request.json is None else request.json.of(request.body)


def reads_json(verifier: Verifier) -> bool:
    """Whether a verifier reads bodies as JSON, to find a signature or what belongs to it."""
    return bool(getattr(verifier, "reads_json", False))
