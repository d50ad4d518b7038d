"""Python client of a Flowhook cluster, for services inside it: gRPC with a bearer token, no HTTP, no signatures.

`Client` blocks, `AsyncClient` is for asyncio. They have the same methods: `aio` is written by hand, and the build
generates `sync` from it (`hatch_build.py`). Both raise `flowhook.errors`. `channel` opens the channels that the
cluster's own processes use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flowhook.client.aio.client import AsyncClient
    from flowhook.client.sync.client import Client
    from flowhook.client.values import ExecutionFailedError, Page, ReplyPendingError
    from flowhook.model.cluster import (
        Backlog,
        ClusterLoad,
        ClusterShards,
        HandOver,
        LogServerInfo,
        ProcessInfo,
        ShardCopyInfo,
        ShardInfo,
        SnapshotInfo,
        StorageUsage,
    )
    from flowhook.model.executions import ExecutionChange, ExecutionCount, ScannedExecution
    from flowhook.model.flows import AppliedFlow, SignedRequest
    from flowhook.model.jobs import JobPreview

__all__ = [
    "AppliedFlow",
    "AsyncClient",
    "Backlog",
    "Client",
    "ClusterLoad",
    "ClusterShards",
    "ExecutionChange",
    "ExecutionCount",
    "ExecutionFailedError",
    "HandOver",
    "JobPreview",
    "LogServerInfo",
    "Page",
    "ProcessInfo",
    "ReplyPendingError",
    "ScannedExecution",
    "ShardCopyInfo",
    "ShardInfo",
    "SignedRequest",
    "SnapshotInfo",
    "StorageUsage",
]

_MODULES: Final = {
    "flowhook.client.aio.client": ("AsyncClient",),
    "flowhook.client.sync.client": ("Client",),
    "flowhook.client.values": ("ExecutionFailedError", "Page", "ReplyPendingError"),
    "flowhook.model.executions": ("ExecutionChange", "ExecutionCount", "ScannedExecution"),
    "flowhook.model.flows": ("AppliedFlow", "SignedRequest"),
    "flowhook.model.jobs": ("JobPreview",),
}
"""Modules of the exported names; all others are in `flowhook.model.cluster`."""


def __getattr__(name: str) -> Any:
    """Import an exported name on first use, since most processes need only `channel`. Source: PEP 562."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for module, names in _MODULES.items() if name in names), "flowhook.model.cluster")
    return getattr(import_module(module), name)
