"""An entry of the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from flowhook.model import to_datetime


class AuditEntry(NamedTuple):
    """A call that changed something, or tried to; see `flowhook.v1.AuditEntry`.

    Attributes:
        number: ascending.
        time_ms: Unix time at which it was answered.
        actor: name of the token that it presented.
        action: method, for example `FlowService/PauseFlow`.
        target: IDs or names of what it was about.
        reason: as given by the caller; may be empty.
        error: empty if it was done; else the reason for which it was refused.
    """

    number: int
    time_ms: int
    actor: str
    action: str
    target: str
    reason: str
    error: str

    @property
    def time(self) -> datetime:
        """Time at which it was answered."""
        return to_datetime(self.time_ms)
