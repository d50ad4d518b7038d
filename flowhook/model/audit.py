"""Entries of the audit log, and the reason and the client's address that a caller gives for them.

The latter two travel as metadata of the call. Source: gRPC over HTTP/2, "Custom-Metadata" (keys that end in `-bin` hold
bytes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Final, NamedTuple

from flowhook.model.times import to_datetime


class AuditEntry(NamedTuple):
    """A call that changed something, or tried to; see `flowhook.v1.AuditEntry`.

    Refusals of one token for one method with one reason are one entry for a day: it describes the last of them.
    """

    number: int  # ascending
    time_ms: int  # Unix time at which it was answered; the first one of several
    actor: str  # name of the token that it presented
    action: str  # method, for example `FlowService/PauseFlow`
    target: str  # IDs or names of what it was about
    reason: str  # as given by the caller; may be empty
    error: str  # empty if it was done; else the reason for which it was refused
    calls: int = 1  # how many calls the entry is about
    last_time_ms: int = 0  # Unix time at which the last of them was answered; 0: there was one only
    # where it came from (empty: unknown); of a call that admin passed on, the address that admin reports and, after
    # `via`, that of admin
    address: str = ""

    @property
    def time(self) -> datetime:
        """Time at which it was answered; the first one of several."""
        return to_datetime(self.time_ms)

    @property
    def last_time(self) -> datetime:
        """Time at which the last one was answered."""
        return to_datetime(self.last_time_ms or self.time_ms)


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
