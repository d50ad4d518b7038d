"""Starts one process under limits and cleans up all its descendants: `python -I -S launcher.py LIFELINE_FD`.

The launcher receives a program over the lifeline as one line of JSON: `{"argv", "environment", "files", "limits"}`. It
starts the process in a fresh directory with these files (text by name), under these limits (by the names of
`RLIMIT_*`). It sends `{"directory"}` before the process starts and `{"code"}` when it has ended. Standard input, output
and error belong to the process.

The launcher is a separate, single-threaded process because limits must be set between fork and exec, where a process
with threads can do next to nothing. As a subreaper it adopts all descendants, so that it also finds daemons, and cleans
up even if the runner is dead. It imports only the standard library, to start quickly.

Source: prctl(2), setrlimit(2), capabilities(7), pidfd_open(2), proc(5).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, NoReturn

NOT_STARTED: Final = 127  # exit code if the program can't be executed, as in shells
SIGNALLED: Final = 128  # added to the number of the signal that ended a process, as in shells
_PROC: Final = Path("/proc")
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_SECUREBITS: Final = 28
_NOROOT_LOCKED: Final = 0b11  # a program that root executes has no capabilities, and can't change that
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_RESET: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ)

_libc = ctypes.CDLL(None)


def main() -> None:
    """Run one program until it ends or the lifeline is closed."""
    lifeline = socket.socket(fileno=int(sys.argv[1]))
    lifeline.set_inheritable(False)
    # all inherited descriptors but the streams and the lifeline: not every event loop closes them on exec
    os.closerange(3, lifeline.fileno())
    os.closerange(lifeline.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    program = _receive(lifeline)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # set here, so that all descendants inherit both from the start and can be identified by them (`orphans`)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _limit(resource.RLIMIT_FSIZE, program["limits"]["FSIZE"])
    directory = tempfile.mkdtemp(prefix="flowhook-")
    try:
        _send(lifeline, {"directory": directory})
        for name, content in program["files"].items():
            Path(directory, name).write_text(content, encoding="utf-8", newline="")
        child = os.fork()
        if not child:
            _become(program, directory)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nothing, descriptor)
        os.close(nothing)
        code = _wait(child, lifeline)
        end_descendants()
        if code is not None:
            _send(lifeline, {"code": code})
    finally:
        with contextlib.suppress(RecursionError):
            shutil.rmtree(directory, ignore_errors=True)


def _send(lifeline: socket.socket, message: dict[str, Any]) -> None:
    lifeline.sendall(json.dumps(message).encode() + b"\n")


def _receive(lifeline: socket.socket) -> dict[str, Any]:
    with lifeline.makefile("rb") as lines:
        line = lines.readline()
    if not line.endswith(b"\n"):
        sys.exit(1)  # the runner is gone
    program: dict[str, Any] = json.loads(line)
    return program


def _become(program: dict[str, Any], directory: str) -> NoReturn:
    try:
        os.setsid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        for name, limit in program["limits"].items():
            _limit(getattr(resource, f"RLIMIT_{name}"), limit)
        os.chdir(directory)
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        # only root needs it, and who may not set it: root without CAP_SETPCAP keeps what its container left it
        _libc.prctl(_PR_SET_SECUREBITS, _NOROOT_LOCKED, 0, 0, 0)
        os.execve(program["argv"][0], program["argv"], program["environment"])  # noqa: S606 - the purpose of this module
    except OSError as problem:
        os.write(2, f"{program['argv'][0]}: {problem.strerror}\n".encode())
    finally:
        os._exit(NOT_STARTED)


def _limit(kind: int, limit: int) -> None:
    if kind == resource.RLIMIT_NPROC:
        limit += _tasks_of_user()
    most = resource.getrlimit(kind)[1]
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(kind, (limit, limit))


def _tasks_of_user() -> int:
    """Return the number of threads that the user has already, since `RLIMIT_NPROC` counts all of them."""
    user, count = os.getuid(), 0
    for process in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == user:
                count += len(list((process / "task").iterdir()))
    return count


def _wait(child: int, lifeline: socket.socket) -> int | None:
    """Wait for the child and return its exit code; None: the lifeline was closed first."""
    exited = os.pidfd_open(child)
    ready, _, _ = select.select([exited, lifeline.fileno()], [], [])
    if exited not in ready:
        return None
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else SIGNALLED - code


def end_descendants() -> None:
    """Kill and reap all descendants of this process.

    The children of a killed process are adopted by this one, so this repeats until there are none. No process forks
    faster than it is found here, since only direct children have to be listed.
    """
    while True:
        children = _children()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            # a child adopted since the list was read has not been killed: don't wait for it
            reaped, _ = os.waitpid(-1, 0 if children else os.WNOHANG)
            while reaped:
                reaped, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return  # without children there are no other descendants


def _children() -> list[int]:
    """Return the children of this process, dead ones included."""
    me = os.getpid()
    try:
        return [int(child) for child in (_PROC / f"{me}/task/{me}/children").read_bytes().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [int(process.name) for process in _PROC.glob("[0-9]*") if _parent(process) == me]


def _parent(process: Path) -> int:
    try:
        # the process name in it may contain spaces and parentheses
        return int((process / "stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


if __name__ == "__main__":
    main()
