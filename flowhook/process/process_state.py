"""The state of a running process: readiness, addresses, warnings, and the request to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence


class ProcessState:
    """State that a process shares with its environment: stop request, readiness and addresses.

    Attributes:
        name: role and number, for example `edge-1`.
        role: `edge`, `router`, `runner` or `admin`.
        stop: set when the process shall drain and return.
        ready: set by the process while it serves; cleared while a dependency is missing.
        detail: description of what is missing, for operators; read while `ready` is not set.
        refusal: why the router refuses this process; empty: it does not.
        addresses: addresses that it listens on, `host:port` by kind (`http`, `grpc`, `health`); see `announce`.
        url: scheme, host and port that senders use, of an edge; else empty.
        connections: returns the number of open connections of senders, of an edge.
        start_time_ms: when it started, Unix time in ms.
        late_loads: functions that load what is needed only now and then, called on a thread once the process is ready.
        warnings: what is wrong although it serves, for operators, by kind.
        clock_skew: by how much its clock is ahead of the router's, in seconds; negative: behind; None: not measured.
    """

    def __init__(self, *, name: str, role: str) -> None:
        self.name = name
        self.role = role
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()
        self.detail = "starting"
        self.refusal = ""
        self.addresses: dict[str, str] = {}
        self.url = ""
        self.connections: Callable[[], int] = lambda: 0
        self.start_time_ms = time.time_ns() // 1_000_000
        self.late_loads: Sequence[Callable[[], object]] = ()
        self.warnings: dict[str, str] = {}
        self.clock_skew: float | None = None

    def lack(self) -> str:
        """Return why this process does not serve now, for operators; empty: it serves."""
        if self.stop.is_set():
            return "draining"
        return self.refusal or ("" if self.ready.is_set() else self.detail or "not ready")

    def warn(self, kind: str, problem: str) -> str:
        """Show a warning of a kind, or (empty) none any more; return the one before."""
        before = self.warnings.pop(kind, "")
        if problem:
            self.warnings[kind] = problem
        return before

    def announce(self, kind: str, host: str, port: int) -> None:
        """Publish an address of this process, with the port that was actually bound. Call it before `ready` is set."""
        self.addresses[kind] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
