"""Operations on the cluster: its processes, its shards and its log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from flowhook.model.cluster import Backlog, ClusterShards, HandOver, LogServerInfo, ShardInfo, StorageUsage
from operations import health
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
    processes: tuple[health.ListedProcess, ...]
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
    reasons, warnings = tuple(health.unready_reasons(load.processes)), tuple(health.warnings(load.processes))
    shown = tuple(map(health.describe_process, load.processes))
    return ClusterState(
        not reasons, reasons, warnings, shown, shards.shards, shards.servers, load.backlog, load.storage
    )


async def list_shards(client: AsyncClient, _parameters: NoParameters) -> ClusterShards:
    """List the shards with their routers, and the servers of the log; any router answers."""
    return await client.cluster.shards()


async def dismiss_process(client: AsyncClient, parameters: ProcessName) -> DismissedProcess:
    """Forget a process that has ended and will not come back."""
    await client.cluster.dismiss(parameters.name)
    return DismissedProcess(parameters.name)
