"""Reports by edges, runners and routers of which routers' advertised addresses they can reach. No I/O.

A process has one voice, its latest report, which counts only while it is fresh. A report is true of its reporter alone:
`ownership` decides by how many of them agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import attrs
from pydantic import Field

from flowhook.errors import ExhaustedError
from flowhook.reporting.reachability import INTERVAL, MAX_CAUSE, TIMEOUT

# age up to which a report counts: that of the one after the next, if the check takes its whole time
FRESH_SECONDS: Final = 2 * INTERVAL + TIMEOUT
MAX_PROCESSES: Final = 500  # most processes of one role whose reports are kept
MAX_SHOWN: Final = 16  # most processes that can't call a router, of those that are named


_Text = Annotated[str, Field(max_length=MAX_CAUSE)]


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A router that a process can't call."""

    router: _Text
    process: _Text  # name of the process: an edge, a runner, or another router
    cause: _Text  # why, for operators


@dataclass(frozen=True, slots=True)
class Voices:
    """How many edges and runners can call a router at the address that it advertises, and how many can't."""

    reach: int = 0
    cut_off: int = 0


@dataclass(frozen=True, slots=True)
class _Report:
    routers: Mapping[str, str]
    heard: float


@attrs.define(eq=False, repr=False)
class ReachabilityReports:
    """The fresh reports of edges and runners; `clock`: monotonic, in seconds."""

    _clock: Callable[[], float]
    _max_processes: int = attrs.field(default=MAX_PROCESSES, kw_only=True)
    _by_role: dict[str, dict[str, _Report]] = attrs.field(init=False, factory=dict)

    def store(self, role: str, process: str, routers: Mapping[str, str]) -> None:
        """Replace the report of a process: why it could not call each router that it tried; empty: it could.

        Raises:
            ExhaustedError: too many processes of the role report already (`TOO_MANY_PROCESSES`).
        """
        reports = self._fresh(role)
        if process not in reports and len(reports) >= self._max_processes:
            raise ExhaustedError("too many processes of this role", reason="TOO_MANY_PROCESSES")
        reports[process] = _Report(routers, self._clock())

    def voices(self, router: str) -> Voices:
        causes = [cause for _, cause in self._causes(router)]
        cut_off = sum(map(bool, causes))
        return Voices(len(causes) - cut_off, cut_off)

    def unreachable(self, router: str) -> list[Unreachable]:
        found = [Unreachable(router, process, cause) for process, cause in self._causes(router) if cause]
        return found[:MAX_SHOWN]

    def _causes(self, router: str) -> Iterable[tuple[str, str]]:
        for role in tuple(self._by_role):
            for process, report in self._fresh(role).items():
                cause = report.routers.get(router)
                if cause is not None:
                    yield process, cause

    def _fresh(self, role: str) -> dict[str, _Report]:
        oldest = self._clock() - FRESH_SECONDS
        fresh = {name: each for name, each in self._by_role.get(role, {}).items() if each.heard >= oldest}
        self._by_role[role] = fresh
        return fresh
