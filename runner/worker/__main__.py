"""Entry point of the child: `python -I -m runner.worker CONTROL_FD RECORD_FD`, started by the parent alone."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys

from flowhook.process import die_with_parent
from runner import control
from runner.guard.record import Record
from runner.worker import app


async def _main(control_fd: int, record_fd: int) -> None:
    pipe = await control.Pipe.open(socket.socket(fileno=control_fd))
    await app.work(pipe, Record(record_fd))


def main() -> None:
    """Work until told to stop."""
    # a terminal's Ctrl-C goes to the whole group: the parent decides what becomes of it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.clear()  # certificates are loaded by now, and expressions could see what is left
    die_with_parent()  # also while an expression holds the loop
    gc.freeze()
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_main(int(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
