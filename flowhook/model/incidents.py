"""Incidents: destinations of calls that are or were down."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from flowhook.model.times import time_if_any, time_of, to_datetime


class IncidentNote(NamedTuple):
    """Something that happened in an incident."""

    time_ms: int  # Unix time
    text: str

    @property
    def time(self) -> datetime:
        return to_datetime(self.time_ms)


@dataclass(frozen=True, slots=True)
class Incident:
    """A destination that is or was down for flows that call it."""

    id: str
    destination: str  # origin of calls, such as `https://api.example.com`
    cause: str  # why the last call failed
    open_time_ms: int  # Unix time since when
    close_time_ms: int | None  # Unix time at which it was over; None: it is open
    flows: tuple[str, ...]  # IDs of flows that it concerns, the first ones
    failures: int  # calls that failed
    probes: int  # calls made to find out whether it is up
    history: tuple[IncidentNote, ...]  # what happened, the newest notes, in order
    waiting: int = 0  # executions that wait for the destination now
    draining: bool = False  # whether it is up again, and those that waited follow or did
    next_probe_time_ms: int | None = None  # Unix time of the next probe; None: one is under way, or none is needed

    opened_at = time_of("open_time_ms")
    closed_at = time_if_any("close_time_ms")
    next_probe_at = time_if_any("next_probe_time_ms")
