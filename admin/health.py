"""Readiness of the cluster, and descriptions of its processes; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from flowhook.client import ProcessInfo

NEEDED_ROLES: Final = ("router", "edge", "runner")
"""Roles of which at least one process must be ready, or no webhook is executed by a flow."""

SILENT_SECONDS: Final = 10.0
"""Age of the last report above which a process is not ready: it has then missed four reports (one every 2 s). One that
gets a tenth of a core may miss some: a runner does not report while it evaluates an expression, which may take half a
second of CPU time."""


def is_ready(process: ProcessInfo) -> bool:
    """Whether a process has recently reported that it is ready."""
    return process.ready and process.last_seen <= SILENT_SECONDS


def unready_reasons(processes: Sequence[ProcessInfo]) -> list[str]:
    """Return why the cluster is not ready; empty when it is."""
    found = []
    for role in NEEDED_ROLES:
        members = [process for process in processes if process.role == role]
        if any(is_ready(process) for process in members):
            continue
        causes = "; ".join(f"{process.name}: {_cause(process)}" for process in members)
        found.append(f"no {role} is ready ({causes})" if causes else f"there is no {role}")
    return found


@dataclass(frozen=True, slots=True)
class ProcessView:
    """What operators are shown of a process.

    `detail`: why it is not ready. `started_at`: null: unknown. `connections`: of an edge, those of senders that are
    open. `credit` and `in_flight`: executions that a runner would take, and that it has.
    """

    name: str
    role: str
    ready: bool
    detail: str
    build: str
    pid: int
    host: str
    last_seen_seconds: float
    started_at: datetime | None
    connections: int
    credit: int
    in_flight: int


def describe_process(process: ProcessInfo) -> ProcessView:
    """Return the description of a process for operators."""
    ready = is_ready(process)
    return ProcessView(
        name=process.name,
        role=process.role,
        ready=ready,
        detail="" if ready else _cause(process),
        build=process.build,
        pid=process.pid,
        host=process.host,
        last_seen_seconds=round(process.last_seen, 3),
        started_at=process.started_at,
        connections=process.connections,
        credit=process.credit,
        in_flight=process.in_flight,
    )


def _cause(process: ProcessInfo) -> str:
    if process.last_seen > SILENT_SECONDS:
        return f"no report for {process.last_seen:.0f} s"
    return process.detail or "not ready"
