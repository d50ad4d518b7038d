"""An entry of the audit log: a call, or several refusals of one kind."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

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
