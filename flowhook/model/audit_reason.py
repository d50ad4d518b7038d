"""The reason that a caller gives for what it changes, and for whom it calls; routers store both in the audit log.

They travel as metadata of the call. Source: gRPC over HTTP/2, "Custom-Metadata" (keys that end in `-bin` hold bytes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

REASON_KEY: Final = "fh-reason-bin"  # key of the metadata: the reason in UTF-8

CLIENT_ADDRESS_KEY: Final = "fh-client-address-bin"
"""Key of the metadata: the address of the client for whom a process calls, as text."""

MAX_AUDIT_REASON: Final = 500  # characters of a reason that are sent

_reason: ContextVar[str] = ContextVar("audit_reason", default="")


client_address: ContextVar[str] = ContextVar("client_address", default="")
"""Address of the client for whom calls in this context are made; empty: of this process itself."""


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
    given = ((REASON_KEY, _reason.get()[:MAX_AUDIT_REASON]), (CLIENT_ADDRESS_KEY, client_address.get()))
    # arguments and environment variables that are not UTF-8 have characters that UTF-8 has not
    return tuple((key, text.encode("utf-8", "replace")) for key, text in given if text)
