"""Keeps one process running: starts it, and starts it again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from typing import Final

from cli.supervisor.child import Addresses, Child
from cli.supervisor.command import Command
from cli.supervisor.rundir import RunDir
from flowhook.errors import FlowhookError, InternalError

FIRST_DELAY: Final = 0.1
MAX_DELAY: Final = 5.0
"""Seconds before a dead process is started again: doubling from the first to the last."""

HEALTHY_SECONDS: Final = 30.0
"""A process that lived this long before it died is started again after the first delay."""

FATAL_CODES: Final = frozenset({1, 2})
"""Exit codes of a process that was refused what it needs, or is configured wrongly: starting again would not help."""

MAX_FIRST_STARTS: Final = 5
"""A process that never became ready is given up after this many starts."""


class StartRefusedError(FlowhookError):
    """A process of the cluster can't start; it said why on stderr."""

    default_reason = "START_REFUSED"


class Keeper:
    """One place in the cluster, `edge-1` for example, and the process that fills it at present.

    Attributes:
        ready: set while the process serves.
        addresses: where it listens; kept over restarts.
    """

    def __init__(
        self,
        name: str,
        role: str,
        command: Callable[[], Command],
        *,
        run_dir: RunDir,
        say: Callable[[str], None],
    ) -> None:
        """Prepare; `command` is asked before each start, so that a restart may know more than the first one."""
        self.name = name
        self.role = role
        self.ready = asyncio.Event()
        self.addresses: Addresses = {}
        self._command = command
        self._run_dir = run_dir
        self._say = say
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._child: Child | None = None
        self._was_ready = False

    async def run(self) -> None:
        """Keep the process running until `stop`.

        Raises:
            StartRefusedError: it ended before it was ever ready, in a way that another start would not change.
        """
        loop = asyncio.get_running_loop()
        delay, starts = FIRST_DELAY, 0
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                starts += 1
                started = loop.time()
                code = await self._run_once()
                if self._stopping.is_set():
                    return
                self._check_first_start(code, starts)
                if loop.time() - started > HEALTHY_SECONDS:
                    delay = FIRST_DELAY
                self._say(f"{self.name} {_how_it_ended(code)}; starting it again in {delay:g} s")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), delay)
                delay = min(delay * 2, MAX_DELAY)
        finally:
            self._ended.set()

    async def stop(self, grace: float) -> None:
        """Have the process drain and wait for its end; it is killed after `grace` seconds."""
        self._stopping.set()
        if self._child is not None:
            self._child.terminate()
        try:
            await asyncio.wait_for(self._ended.wait(), grace)
        except TimeoutError:
            self._say(f"{self.name} did not stop in {grace:g} s; killing it")
            self.kill()
            await self._ended.wait()

    def kill(self) -> None:
        """End the process at once and don't start it again."""
        self._stopping.set()
        if self._child is not None:
            self._child.kill()

    async def _run_once(self) -> int:
        self._child = child = await Child.start(self._command())
        try:
            self._tell_pid(child.pid)
            if self._stopping.is_set():
                child.terminate()
            return await child.run(self._on_ready)
        finally:
            # whatever the process left in its session, and itself when this is cancelled: nobody would watch it
            child.kill()
            await child.wait()
            self._child = None
            self.ready.clear()
            with contextlib.suppress(OSError):
                self._run_dir.remove_pid(self.name)

    def _tell_pid(self, pid: int) -> None:
        """Write the pid file, if that can be: a full disk is no reason to end what runs."""
        try:
            self._run_dir.write_pid(self.name, pid)
        except OSError as error:
            self._say(f"{self.name} has no pid file: {os.strerror(error.errno or 0)}")

    def _on_ready(self, addresses: Addresses) -> None:
        self.addresses = addresses
        if self._was_ready:
            self._say(f"{self.name} is ready again")
        self._was_ready = True
        self.ready.set()

    def _check_first_start(self, code: int, starts: int) -> None:
        if self._was_ready:
            return
        if code in FATAL_CODES:
            raise StartRefusedError(f"{self.name} can't start, see above")
        if starts >= MAX_FIRST_STARTS:
            raise InternalError(f"{self.name} {_how_it_ended(code)} {starts} times before it was ready")


def _how_it_ended(code: int) -> str:
    if code < 0:
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"
    return f"ended with exit code {code}"
