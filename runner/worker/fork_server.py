"""Forks children from a process with all modules imported: `python -I -m runner.worker.fork_server SOCKET_FD`.

`guard.process_starter` is at the other end of the socket; each child gets its control socket and its record. The server
kills what its children's flows leave behind.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Final

import psutil
from typing_extensions import override

from flowhook.sandbox.fork_server import ForkServer
from runner.components.registry import components
from runner.processes import orphans
from runner.worker import process

# time after the end of a child that the launchers of its flows' processes have to clean up by themselves
SWEEP_SECONDS: Final = 5.0
# delay before the next sweep if one left processes; doubled after each, up to `SWEEP_SECONDS`
RESWEEP_SECONDS: Final = 0.1
SWEEP_ROUNDS: Final = 4  # rounds of one sweep, some milliseconds apart

THREADS: Final = (
    "flowhook: a component starts a thread when it is imported; working processes are forked, and will not have it. "
    "Let it start the thread when it is first called"
)


def serve(descriptor: int) -> None:
    """Fork children until the other end of the socket `descriptor` is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: F401, PLC0415 - the children use it; not available on every platform
    components()  # includes those of installed packages
    process.prepare()
    if psutil.Process().num_threads() > 1:
        print(THREADS, file=sys.stderr, flush=True)  # noqa: T201 - logs are not set up here
    orphans.become_subreaper()
    _Server(socket.socket(fileno=descriptor)).run()


class _Server(ForkServer):
    def __init__(self, link: socket.socket) -> None:
        super().__init__(link)
        self._sweep_at = 0.0  # monotonic time of the next sweep of processes that children left behind; 0: none is due
        self._sweep_delay = RESWEEP_SECONDS

    @override
    def become(self, argument: str, descriptors: Sequence[int]) -> int:
        process.run(*descriptors)
        return 0

    @override
    def on_end(self) -> None:
        self._sweep_at = time.monotonic() + SWEEP_SECONDS

    @override
    def idle_seconds(self) -> float | None:
        return max(0.0, self._sweep_at - time.monotonic()) if self._sweep_at else None

    @override
    def on_idle(self) -> None:
        if not self._sweep_at or time.monotonic() < self._sweep_at:
            return
        known = frozenset(self._children.values()) | self._ended
        # this process has one thread: sweep a few rounds at a time, with requests in between
        sweep = orphans.kill_orphans(lambda child: child not in known, rounds=SWEEP_ROUNDS)
        if sweep.is_over:
            self._sweep_at, self._sweep_delay = 0.0, RESWEEP_SECONDS
        else:
            self._sweep_at = time.monotonic() + self._sweep_delay
            self._sweep_delay = min(2 * self._sweep_delay, SWEEP_SECONDS)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
