"""The reason that a caller gives for what it changes; routers store it in the audit log.

It travels as metadata of the call. Source: gRPC over HTTP/2, "Custom-Metadata" (keys that end in `-bin` hold bytes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

REASON_KEY: Final = "fh-reason-bin"
"""Key of the metadata: the reason in UTF-8."""

MAX_REASON: Final = 500
"""Characters of a reason that are sent."""

_reason: ContextVar[str] = ContextVar("audit_reason", default="")


@contextmanager
def audit_reason(text: str) -> Iterator[None]:
    """Give the calls of clients in this context a reason; an empty one changes nothing."""
    if not text:
        yield
        return
    token = _reason.set(text)
    try:
        yield
    finally:
        _reason.reset(token)


def set_audit_reason(text: str) -> None:
    """Give all further calls of this process a reason."""
    _reason.set(text)


def reason_metadata() -> tuple[tuple[str, bytes], ...]:
    """Return the metadata of a call."""
    text = _reason.get()
    # arguments and environment variables that are not UTF-8 have characters that UTF-8 has not
    return ((REASON_KEY, text[:MAX_REASON].encode("utf-8", "replace")),) if text else ()
