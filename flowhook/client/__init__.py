"""Python client of a Flowhook cluster, for services inside it: gRPC with a bearer token, no HTTP, no signatures.

`Client` blocks, `AsyncClient` is for asyncio. They have the same methods: `aio` is written by hand, and the build
generates `sync` from it (`hatch_build.py`). Both raise `flowhook.errors`. `channel` opens the channels that the
cluster's own processes use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flowhook.client.aio.client import AsyncClient
    from flowhook.client.results import (
        AppliedFlow,
        Backlog,
        ClusterLoad,
        ClusterShards,
        ExecutionChange,
        ExecutionCount,
        ExecutionFailedError,
        HandOver,
        JobPreview,
        LogServerInfo,
        Page,
        ProcessInfo,
        ReplyPendingError,
        ScannedExecution,
        ShardCopyInfo,
        ShardInfo,
        SignedRequest,
        SnapshotInfo,
        StorageUsage,
    )
    from flowhook.client.sync.client import Client

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

_FROM: Final = {"AsyncClient": "aio.client", "Client": "sync.client"}
"""Modules of the exported names that `results` does not define."""


def __getattr__(name: str) -> Any:
    """Import an exported name on first use, since most processes need only `channel`. Source: PEP 562."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FROM.get(name, 'results')}"), name)
