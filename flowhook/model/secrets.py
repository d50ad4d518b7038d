"""The public metadata of a secret: its name and its age."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flowhook.model import to_datetime


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """Public metadata of a secret."""

    name: str
    update_time_ms: int

    @property
    def updated_at(self) -> datetime:
        """Time at which it was last set."""
        return to_datetime(self.update_time_ms)
