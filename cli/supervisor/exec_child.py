"""Executes a program that is not ours as a child of the supervisor, and lets it end when the supervisor ends.

`python -P -m cli.supervisor.exec_child PARENT PROGRAM ARGUMENTS…`, where PARENT is the supervisor's process ID. The
program takes the place of this process, and so keeps its process ID.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

from flowhook.process.kernel import die_with_parent
from flowhook.process.supervisor_socket import take_socket

POLL_SECONDS: Final = 0.2  # interval in which the supervisor is looked for where the kernel does not report its end


def main(arguments: Sequence[str]) -> None:
    parent, *command = arguments
    socket = take_socket()
    if socket is not None:
        socket.close()  # the program would not use it
    if sys.platform.startswith("linux"):
        die_with_parent(int(parent))  # survives the execution of a program
    else:
        watch_parent(int(parent))
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def watch_parent(parent: int) -> None:
    """Fork a process that kills this one once `parent` has ended, and ends itself with this one."""
    watched = os.getpid()
    if os.fork() != 0:
        return
    while os.getppid() == watched:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.kill(watched, signal.SIGKILL)
            break
        time.sleep(POLL_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
