"""The Python client of a Flowhook cluster, for services inside it: no HTTP, no signatures, a token.

`Client` blocks, `AsyncClient` is for asyncio. They offer the same methods and differ in nothing but `await`: what is
sent and what becomes of the answer stands once, in `calls`. Both raise `flowhook.errors`. `channel` opens the channels
that the cluster's own processes use.
"""

from flowhook.client.aio import AsyncClient
from flowhook.client.calls import AppliedFlow, ExecutionChange, ExecutionFailedError, ProcessInfo, ReplyPendingError
from flowhook.client.sync import Client

__all__ = [
    "AppliedFlow",
    "AsyncClient",
    "Client",
    "ExecutionChange",
    "ExecutionFailedError",
    "ProcessInfo",
    "ReplyPendingError",
]
