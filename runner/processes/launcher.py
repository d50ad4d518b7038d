"""Starts one process under limits and leaves nothing of it behind: `python -I -S launcher.py LIFELINE_FD`.

Over the lifeline comes the job, one line of JSON: `{"argv", "environment", "files", "limits"}`. The process starts in a
fresh directory with these files, text by name, under these limits, by the names of `RLIMIT_*`. Back go
`{"directory"}`, before it starts, and how it ended, `{"code"}`. Standard input, output and error are the process's own.

A process of its own, and single-threaded, because limits have to be set between fork and exec, where a process with
threads can do next to nothing. It adopts whatever the process starts (a subreaper), so that a daemon is found, too, and
clears up even when the runner is dead. It imports the standard library alone, to be quick.

Source: prctl(2), setrlimit(2), pidfd_open(2), proc(5).
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

NOT_STARTED: Final = 127
"""Exit code of what can't be executed, as shells have it."""
SIGNALLED: Final = 128
"""Added to the number of the signal that ended a process, as shells do."""

_PROC: Final = Path("/proc")
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_RESET: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ)

_libc = ctypes.CDLL(None)


def main() -> None:
    """Run one job to its end, or to that of the lifeline."""
    lifeline = socket.socket(fileno=int(sys.argv[1]))
    lifeline.set_inheritable(False)
    _keep_only(lifeline.fileno())
    job = _receive(lifeline)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # here, for all that it starts inherits both from its first moment on, and is known by it (`strays`)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _limit(resource.RLIMIT_FSIZE, job["limits"]["FSIZE"])
    directory = tempfile.mkdtemp(prefix="flowhook-")
    try:
        _say(lifeline, {"directory": directory})
        for name, content in job["files"].items():
            Path(directory, name).write_text(content, encoding="utf-8", newline="")
        child = os.fork()
        if not child:
            _become(job, directory)
        _let_go_of_streams()
        code = _wait(child, lifeline)
        end_descendants()
        if code is not None:
            _say(lifeline, {"code": code})
    finally:
        with contextlib.suppress(RecursionError):
            shutil.rmtree(directory, ignore_errors=True)


def _keep_only(descriptor: int) -> None:
    """Close what whoever started this process let through, beside the streams: not every event loop closes that."""
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))


def _say(lifeline: socket.socket, message: dict[str, Any]) -> None:
    lifeline.sendall(json.dumps(message).encode() + b"\n")


def _receive(lifeline: socket.socket) -> dict[str, Any]:
    with lifeline.makefile("rb") as lines:
        line = lines.readline()
    if not line.endswith(b"\n"):
        sys.exit(1)  # whoever wanted it is gone
    job: dict[str, Any] = json.loads(line)
    return job


def _become(job: dict[str, Any], directory: str) -> NoReturn:
    """Turn this process into the one that is wanted."""
    try:
        os.setsid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        for name, limit in job["limits"].items():
            _limit(getattr(resource, f"RLIMIT_{name}"), limit)
        os.chdir(directory)
        os.execve(job["argv"][0], job["argv"], job["environment"])  # noqa: S606 - it is what this is for
    except OSError as problem:
        os.write(2, f"{job['argv'][0]}: {problem.strerror}\n".encode())
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
    """Return how many threads the user has already, for the limit counts them all."""
    user, count = os.getuid(), 0
    for process in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == user:
                count += len(list((process / "task").iterdir()))
    return count


def _let_go_of_streams() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def _wait(child: int, lifeline: socket.socket) -> int | None:
    """Return the exit code; None: the lifeline was closed before."""
    exited = os.pidfd_open(child)
    ready, _, _ = select.select([exited, lifeline.fileno()], [], [])
    if exited not in ready:
        return None
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else SIGNALLED - code


def end_descendants() -> None:
    """Kill whatever descends from this process, and reap it.

    Who is killed leaves its children to us, so it goes on until there are none. No process forks as fast as it is
    found here, as long as it is looked for among our own children alone.
    """
    while True:
        children = _children()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            # one that came since they were read has not been killed: don't wait for it
            reaped, _ = os.waitpid(-1, 0 if children else os.WNOHANG)
            while reaped:
                reaped, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return  # who has no child has no other descendant either


def _children() -> list[int]:
    """Return the children of this process, dead ones included."""
    me = os.getpid()
    try:
        return [int(child) for child in (_PROC / f"{me}/task/{me}/children").read_bytes().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [int(process.name) for process in _PROC.glob("[0-9]*") if _parent(process) == me]


def _parent(process: Path) -> int:
    try:
        # the name in it may hold spaces and parentheses
        return int((process / "stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


if __name__ == "__main__":
    main()
