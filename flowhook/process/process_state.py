"""The state of a running process: readiness, addresses, warnings, and the request to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import attrs


async def _not_measured() -> bytes:
    raise TimeoutError


@attrs.define(eq=False, repr=False, kw_only=True)
class ProcessState:
    """State that a process shares with its environment: stop request, readiness and addresses."""

    name: str  # role and number, for example `edge-1`
    role: str  # `edge`, `router`, `runner` or `admin`
    stop: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)  # set when it shall drain and return
    # set by the process while it serves; cleared while a dependency is missing
    ready: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    detail: str = attrs.field(init=False, default="starting")  # what is missing while `ready` is not set, for operators
    refusal: str = attrs.field(init=False, default="")  # why the router refuses this process; empty: it does not
    # addresses that it listens on, `host:port` by kind (`http`, `grpc`, `health`); see `announce`
    addresses: dict[str, str] = attrs.field(init=False, factory=dict)
    url: str = attrs.field(init=False, default="")  # scheme, host and port that senders use, of an edge
    connections: Callable[[], int] = attrs.field(init=False, default=lambda: 0)  # of senders that are open, of an edge
    start_time_ms: int = attrs.field(init=False, factory=lambda: time.time_ns() // 1_000_000)
    # load what is needed only now and then; called on a thread once the process is ready
    late_loads: Sequence[Callable[[], object]] = attrs.field(init=False, default=())
    warnings: dict[str, str] = attrs.field(init=False, factory=dict)  # what is wrong although it serves, by kind
    # by how much its clock is ahead of the router's, in seconds; negative: behind; None: not measured
    clock_skew: float | None = attrs.field(init=False, default=None)
    # returns the metrics of this process in the text format of Prometheus; raises TimeoutError if it can't now
    metrics: Callable[[], Awaitable[bytes]] = attrs.field(init=False, default=_not_measured)

    def lack(self) -> str:
        """Return why this process does not serve now, for operators; empty: it serves."""
        if self.stop.is_set():
            return "draining"
        return self.refusal or ("" if self.ready.is_set() else self.detail or "not ready")

    def warn(self, kind: str, problem: str) -> str:
        """Show a warning of a kind, or (empty) none any more; return the one before."""
        before = self.warnings.get(kind, "")
        if problem:
            self.warnings[kind] = problem
        elif before:
            del self.warnings[kind]
        return before

    def announce(self, kind: str, host: str, port: int) -> None:
        """Publish an address of this process, with the port that was actually bound. Call it before `ready` is set."""
        self.addresses[kind] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
