"""Operations on the cluster: its processes, its shards and its log; and whether it is ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from flowhook.client import ProcessInfo
from flowhook.model.cluster import Backlog, ClusterShards, HandOver, LogServerInfo, ShardInfo, StorageUsage
from operations.encoding import shown_fields
from operations.operation import NoParameters, Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


class ProcessName(Parameters):
    """Parameters of `dismiss_process`."""

    name: str
    """Name of the process."""


@dataclass(frozen=True, slots=True)
class DismissedProcess:
    """The process that was dismissed."""

    name: str


class Successor(Parameters):
    """Parameters of `hand_over`."""

    successor: Annotated[str, Field(max_length=64)] = ""
    """Router that is to own the shard; default: the standby that most edges and runners reach."""


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The processes by name, the shards by number, the servers of the log by name; and why webhooks don't run.

    `warnings`: what is wrong besides. `backlog`: the executions that have not ended. `storage`: what the data of the
    shard's owner takes on its disk.
    """

    ready: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    processes: tuple[ListedProcess, ...]
    shards: tuple[ShardInfo, ...]
    servers: tuple[LogServerInfo, ...]
    backlog: Backlog
    storage: StorageUsage


async def hand_over(client: AsyncClient, parameters: Successor) -> HandOver:
    """Have the owner of the shard hand it over to a standby."""
    return await client.cluster.hand_over(parameters.successor)


async def get_cluster(client: AsyncClient, _parameters: NoParameters) -> ClusterState:
    """Get the processes and the shards of the cluster."""
    load = await client.cluster.load()
    shards = await client.cluster.shards()
    reasons, shown = tuple(unready_reasons(load.processes)), tuple(map(describe_process, load.processes))
    return ClusterState(
        not reasons,
        reasons,
        tuple(warnings(load.processes)),
        shown,
        shards.shards,
        shards.servers,
        load.backlog,
        load.storage,
    )


async def list_shards(client: AsyncClient, _parameters: NoParameters) -> ClusterShards:
    """List the shards with their routers, and the servers of the log; any router answers."""
    return await client.cluster.shards()


async def dismiss_process(client: AsyncClient, parameters: ProcessName) -> DismissedProcess:
    """Forget a process that has ended and will not come back."""
    await client.cluster.dismiss(parameters.name)
    return DismissedProcess(parameters.name)


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
    found = [*causes, *((process, warning) for process in processes for warning in _warnings(process))]
    # what is wrong with the address of a router begins with its name
    return [text if text.startswith(f"{each.name} ") else f"{each.name}: {text}" for each, text in found]


def _warnings(process: ProcessInfo) -> list[str]:
    """Return the warnings of a process, and that its clock differs from the router's by more than matters."""
    from flowhook.reporting.process_reports import MAX_CLOCK_SKEW_SECONDS  # noqa: PLC0415 - it imports Prometheus' client

    skew = process.clock_skew or 0.0
    if abs(skew) <= MAX_CLOCK_SKEW_SECONDS:
        return [*process.warnings]
    side = "ahead of" if skew > 0 else "behind"
    return [*process.warnings, f"its clock is {abs(skew):.1f} s {side} the router's"]


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
        "detail": "; ".join(filter(None, ("" if ready else _cause(process), *_warnings(process)))),
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
