"""Lifecycle of a cluster process: reports readiness, drains on a signal, and ends with its supervisor.

`run` calls each process's `app.serve(settings, lifecycle)`. A process reports its readiness and addresses, and until
then what it waits for, on the socket to its supervisor (`flowhook.process.supervisor_socket`). It exits immediately
when the other end closes, which the kernel ensures however the supervisor ends. Exiting immediately is safe: nothing
relies on an orderly stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import faulthandler
import gc
import math
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

import flowhook
from flowhook.asyncio_tasks import end_tasks, wait_at_most
from flowhook.errors import FlowhookError
from flowhook.limits import MIB
from flowhook.process import kernel, logs
from flowhook.process.installation import watch_installation
from flowhook.process.process_state import ProcessState
from flowhook.process.server_certificates import watch_expiry
from flowhook.process.settings import CommonSettings
from flowhook.process.status_server import StatusServer
from flowhook.process.supervisor_socket import take_socket
from flowhook.process.ticks import next_tick

# the process stopped with a FlowhookError: a restart fails the same way until its configuration or environment changes
EXIT_REFUSED: Final = 1
STORAGE_FULL: Final = "STORAGE_FULL"
READINESS_SECONDS: Final = 2.0  # between two looks whether a process is still ready, for its log
LACK_SECONDS: Final = 1.0  # between two looks at what a process waits for that starts, for its supervisor
MAX_LACK: Final = 512  # characters of that
EXIT_DEFECT: Final = 70  # the process ended with an unexpected exception (sysexits.h, EX_SOFTWARE)
# with less room than this a disk counts as full: SQLite's shared memory and a few pages need as much
LEAST_BYTES: Final = MIB // 4
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

log = logs.get_logger(__name__)


def describe_full(directories: Iterable[Path], *, least_bytes: int = LEAST_BYTES) -> str:
    """Return which of the directories are on a full disk, and what is free there; empty: none of them is.

    Blocks briefly.
    """
    found = {str(each): _free_bytes(each) for each in directories}
    full = [f"{path} has {free / MIB:.1f} MiB free" for path, free in found.items() if free < least_bytes]
    return f"disk full: {', '.join(full)}" if full else ""


def _free_bytes(directory: Path) -> float:
    for each in (directory, *directory.absolute().parents):
        try:
            found = os.statvfs(each)
        except OSError:
            continue
        return found.f_bavail * found.f_frsize
    return math.inf


def run(main: Callable[[ProcessState], Awaitable[None]], settings: CommonSettings, role: str) -> int:
    """Run one process (a `role` such as `edge`) to its end and return its exit code. Blocking.

    `main` serves until `stop` is set, then drains and returns. SIGTERM and SIGINT make it drain; a second signal ends
    it at once. The exit code is 0 after a drain; `EXIT_REFUSED` after a FlowhookError, or because of a full disk, which
    is one line of the log; `EXIT_DEFECT` otherwise.
    """
    faulthandler.enable()
    kernel.request_short_slice()
    # the host name distinguishes containers: the first process of each has the same ID
    name = settings.process_name or f"{role}-{os.getpid()}@{socket.gethostname()}"
    parent = take_socket()
    if parent is not None:
        kernel.die_with_parent()
    try:
        kernel.ensure_limit()
        logs.configure(level=settings.log_level, log_format=settings.log_format, process=name)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_live(main, ProcessState(name=name, role=role), parent, settings))
    except FlowhookError as error:
        _report_end(error.message, error.reason, name, settings)
        return EXIT_REFUSED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            _report_end(os.strerror(error.errno or 0), STORAGE_FULL, name, settings)
            return EXIT_REFUSED
        log.exception("process failed")
        return EXIT_DEFECT
    return 0


def _report_end(message: str, reason: str, name: str, settings: CommonSettings) -> None:
    """Say why a process ends; and that a disk is full, which errors of the storage do not always tell."""
    full = describe_full(settings.directories)
    logs.report_end(
        f"{full}; make room, and start it again; {message}" if full else message,
        reason=STORAGE_FULL if full else reason,
        process=name,
        log_format=settings.log_format,
    )


async def _live(
    main: Callable[[ProcessState], Awaitable[None]],
    process_state: ProcessState,
    parent: socket.socket | None,
    settings: CommonSettings,
) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, process_state, number)
    helpers = [
        asyncio.create_task(_say_ready(process_state, parent), name="say ready"),
        asyncio.create_task(watch_installation(process_state), name="watch the installation"),
        asyncio.create_task(_log_readiness(process_state), name="log readiness"),
        asyncio.create_task(watch_expiry(process_state), name="watch the certificates"),
    ]
    if parent is not None:
        parent.setblocking(False)
        helpers.append(asyncio.create_task(_watch_parent(parent), name="watch parent"))
    try:
        async with contextlib.AsyncExitStack() as until_end:
            if settings.health_port is not None:
                serving = StatusServer(process_state).serving(settings.health_host, settings.health_port)
                process_state.announce("health", settings.health_host, await until_end.enter_async_context(serving))
            await main(process_state)
        log.info("stopped")
    except ExceptionGroup as group:
        raise _only_cause(group) from group
    finally:
        await end_tasks(helpers)


def _only_cause(group: ExceptionGroup[Exception]) -> Exception:
    """Return the FlowhookError that a TaskGroup wrapped, or the group when it holds anything else."""
    cause: Exception = group
    while isinstance(cause, ExceptionGroup) and len(cause.exceptions) == 1:
        cause = cause.exceptions[0]
    return cause


def _on_signal(process_state: ProcessState, number: signal.Signals) -> None:
    if process_state.stop.is_set():
        os._exit(128 + number)
    log.info("stopping", signal=number.name)
    process_state.stop.set()


async def _say_ready(process_state: ProcessState, parent: socket.socket | None) -> None:
    said = ""
    while not await wait_at_most(LACK_SECONDS, process_state.ready.wait()):
        if (lack := process_state.lack()) != said:
            said = lack
            await _tell(parent, {"ready": False, "lack": lack[:MAX_LACK]})
    gc.freeze()  # objects of the start-up are permanent: scanning them repeatedly would block the loop for tens of ms
    log.info("ready", build=flowhook.__version__, **process_state.addresses)
    await _tell(parent, {"ready": True, "addresses": process_state.addresses})
    for load in process_state.late_loads:
        await asyncio.to_thread(load)
    gc.freeze()
    log.debug("all code is loaded")


async def _tell(parent: socket.socket | None, message: Mapping[str, Any]) -> None:
    if parent is not None:
        await asyncio.get_running_loop().sock_sendall(parent, orjson.dumps(message) + b"\n")


async def _log_readiness(process_state: ProcessState) -> None:
    """Log when the process is not ready any more, because it lost a connection for example, and when it is again."""
    await process_state.ready.wait()
    lost: float | None = None
    while not process_state.stop.is_set():
        await next_tick(READINESS_SECONDS)
        lack = process_state.lack()
        if lack and lost is None and not process_state.stop.is_set():
            lost = time.monotonic()
            log.warning("not ready", cause=lack)
        elif not lack and lost is not None:
            log.info("ready again", seconds=round(time.monotonic() - lost, 1))
            lost = None


async def _watch_parent(parent: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while await loop.sock_recv(parent, 64):
            pass
    except OSError:
        pass
    os._exit(EXIT_REFUSED)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not available on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop
