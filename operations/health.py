"""Readiness of the cluster, and descriptions of its processes; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flowhook.client import ProcessInfo
from flowhook.model.cluster import ClusterShards, describe_no_quorum
from operations.encoding import shown_fields

# roles of which at least one process must be ready, or no webhook is executed by a flow
NEEDED_ROLES: Final = ("router", "edge", "runner")
# age of the last report above which a process is not ready: it has then missed four reports (one every 2 s; at rest one
# every 6 s, and what begins to work reports within 2 s). One that
# gets a tenth of a core may miss some: a runner does not report while it evaluates an expression, which may take half
# a second of CPU time.
SILENT_SECONDS: Final = 10.0


def is_ready(process: ProcessInfo) -> bool:
    return process.ready and process.last_seen <= SILENT_SECONDS


def unready_reasons(processes: Sequence[ProcessInfo]) -> list[str]:
    found = []
    for role in NEEDED_ROLES:
        members = [process for process in processes if process.role == role]
        if any(is_ready(process) for process in members):
            continue
        causes = "; ".join(f"{process.name}: {_cause(process)}" for process in members)
        found.append(f"no {role} is ready ({causes})" if causes else f"there is no {role}")
    return found


def warnings(processes: Sequence[ProcessInfo]) -> list[str]:
    """Return what is wrong with the cluster and keeps no webhook from being executed now.

    A router that could not take over, or that nobody would reach then, is such a thing as long as another is ready.
    """
    routers = [process for process in processes if process.role == "router"]
    unready = [process for process in routers if not is_ready(process)] if any(map(is_ready, routers)) else []
    causes = [(process, _cause(process)) for process in unready]
    found = [*causes, *((process, warning) for process in processes for warning in process.warnings)]
    # what is wrong with the address of a router begins with its name
    return [text if text.startswith(f"{each.name} ") else f"{each.name}: {text}" for each, text in found]


def shard_problems(state: ClusterShards) -> list[str]:
    """Return why no router serves, as far as any of them knows: the servers of the log, or addresses of routers."""
    addresses = (copy.problem for shard in state.shards for copy in shard.copies)
    return list(filter(None, (describe_no_quorum(state.servers), *addresses)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedProcess(ProcessInfo):
    """What operators are shown of a process.

    `detail`: why it is not ready, and what is wrong with it otherwise. `started_at`: null: unknown. `connections`: of
    an edge, those of senders that are open. `credit` and `in_flight`: executions that a runner would take, and that it
    has. `clock_skew_seconds`: by how much its clock is ahead of the router's, at the least; negative: behind; null:
    unknown.
    """

    last_seen_seconds: float
    clock_skew_seconds: float | None


def describe_process(process: ProcessInfo) -> ListedProcess:
    ready = is_ready(process)
    shown = shown_fields(ProcessInfo, process) | {
        "ready": ready,
        "detail": "; ".join(filter(None, ("" if ready else _cause(process), *process.warnings))),
    }
    return ListedProcess(
        **shown,
        last_seen_seconds=round(process.last_seen, 3),
        clock_skew_seconds=None if process.clock_skew is None else round(process.clock_skew, 3),
    )


def _cause(process: ProcessInfo) -> str:
    if process.last_seen > SILENT_SECONDS:
        return f"no report for {process.last_seen:.0f} s"
    return process.detail or "not ready"
