"""Prepares a started or forked process and runs the child in it.

The parent starts it as `python -I -m runner.worker.process CONTROL_FD RECORD_FD`, or has `fork_server` fork it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable

from flowhook.process import kernel
from runner import ipc
from runner.guard.evaluation_record import EvaluationRecord
from runner.processes import orphans
from runner.worker import app


def prepare() -> None:
    """Prepare this process to evaluate expressions, or to be forked into processes that do.

    Call it once everything is imported: certificates are loaded by then. It clears the environment, which expressions
    could read.
    """
    # a terminal's Ctrl-C goes to the whole process group: the parent decides what to do
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.clear()
    kernel.ensure_limit(needed=0)
    kernel.request_short_slice()
    kernel.die_with_parent()  # also while an expression blocks the event loop
    gc.collect()
    gc.freeze()  # present objects are permanent: the collector skips them, and their memory stays shared with forks


def run(control_fd: int, record_fd: int) -> None:
    """Run the child until the parent stops it. Processes started from here inherit neither descriptor."""
    for descriptor in (control_fd, record_fd):
        os.set_inheritable(descriptor, False)
    orphans.become_subreaper()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_work(control_fd, record_fd))


async def _work(control_fd: int, record_fd: int) -> None:
    control = await ipc.ControlChannel.open(socket.socket(fileno=control_fd))
    await app.work(control, EvaluationRecord(record_fd))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not available on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    prepare()
    run(int(sys.argv[1]), int(sys.argv[2]))
