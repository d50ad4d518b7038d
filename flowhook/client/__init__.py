"""The Python client of a Flowhook cluster, for services inside it: no HTTP, no signatures, a token.

`Client` blocks, `AsyncClient` is for asyncio. They offer the same methods and differ in nothing but `await`: what is
sent and what becomes of the answer stands once, in `calls`. Both raise `flowhook.errors`. `channel` opens the channels
that the cluster's own processes use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
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

_FROM: Final = {"AsyncClient": "aio", "Client": "sync"}
"""Modules of what is not in `calls`."""


def __getattr__(name: str) -> Any:
    """Import what `__all__` names when it is first asked for: most processes need `channel` alone. Source: PEP 562."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FROM.get(name, 'calls')}"), name)
