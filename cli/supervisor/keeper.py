"""Keeps one process running: starts it, tells it what it waits for, and starts it again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from cli.supervisor.child import Child, ended_from_outside, how_it_ended, killed_from_outside
from cli.supervisor.command import Command
from cli.supervisor.rundir import RunDir
from cli.supervisor.waiting import remind
from flowhook.errors import FlowhookError, InternalError

FIRST_DELAY: Final = 0.1
MAX_DELAY: Final = 5.0
"""Seconds before a dead process is started again: doubling from the first to the last."""

HEALTHY_SECONDS: Final = 30.0
"""A process that lived this long before it died is started again after the first delay. Measures nothing but that."""

REFUSED: Final = 1
"""Exit code of a process that was refused what it needs: another start may find it, when others serve already."""

WRONG_USAGE: Final = 2
"""Exit code of a process that is configured wrongly: what it is told does not change from start to start."""

MAX_FIRST_STARTS: Final = 5
"""Defects of a process after which it is given up, as long as the router has never served."""

Addresses = dict[str, str]
"""Where a process listens, `host:port` by kind (`http`, `grpc`)."""


class StartRefusedError(FlowhookError):
    """A process of the cluster can't start; it said why on stderr."""

    default_reason = "START_REFUSED"


class Keeper:
    """One place in the cluster, `edge-1` for example, and the process that fills it at present.

    Attributes:
        go: set once what the process depends on serves; it has imported its code by then, and waits.
        ready: set while the process serves.
        addresses: where it listens; kept over restarts.
    """

    def __init__(
        self,
        name: str,
        role: str,
        command: Command,
        settings: Callable[[bool], Mapping[str, str]],
        *,
        served: asyncio.Event,
        run_dir: RunDir,
        say: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            name: role and number.
            role: of the process.
            command: how to start it.
            settings: asked after each start, so that a restart may know more than the first one, for what the process
                waits for; its argument says whether the loss of the process before was somebody else's doing.
            served: set once the router has served; from then on no end of a process ends the cluster.
            run_dir: for pid files.
            say: prints one line.
        """
        self.name = name
        self.role = role
        self.go = asyncio.Event()
        self.ready = asyncio.Event()
        self.addresses: Addresses = {}
        self._command = command
        self._settings = settings
        self._served = served
        self._run_dir = run_dir
        self._say = say
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._child: Child | None = None
        self._was_ready = False
        self._explained = False

    async def run(self) -> None:
        """Keep the process running until `stop`.

        Raises:
            StartRefusedError: it ended before it was ever ready, in a way that another start would not change.
        """
        loop = asyncio.get_running_loop()
        delay, defects = FIRST_DELAY, 0
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                started = loop.time()
                try:
                    code = await self._run_once()
                    how = how_it_ended(code)
                except OSError as error:  # no memory or no process left, for example
                    code, how = None, f"can't be started: {os.strerror(error.errno or 0)}"
                if self._stopping.is_set():
                    return
                defects += code is None or not ended_from_outside(code)
                self._check_first_start(code, how, defects)
                if loop.time() - started > HEALTHY_SECONDS:
                    delay = FIRST_DELAY
                self._say(f"{self.name} {how}; starting it again in {delay:g} s")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._stopping.wait()
                delay = min(delay * 2, MAX_DELAY)
        finally:
            self._ended.set()

    async def stop(self, grace: float) -> None:
        """Have the process drain and wait for its end; it is killed after `grace` seconds."""
        self._stopping.set()
        if self._child is not None:
            self._child.terminate()
        try:
            async with asyncio.timeout(grace):
                await self._ended.wait()
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
        self._child = child = await Child.start(self._command)
        was_ready = False

        def on_message(message: Mapping[str, Any]) -> None:
            nonlocal was_ready
            if message.get("ready"):
                was_ready = True
                self._on_ready(message["addresses"])

        try:
            self._tell_pid(child.pid)
            if self._stopping.is_set():
                child.terminate()
            async with asyncio.TaskGroup() as helpers:
                telling = helpers.create_task(self._tell_settings(child))
                reminding = helpers.create_task(self._remind())
                code = await child.run(on_message)
                telling.cancel()
                reminding.cancel()
            # one that was never ready leaves what the one before it lost as it was
            self._explained = killed_from_outside(code) and (was_ready or self._explained)
            return code
        finally:
            # whatever the process left in its session, and itself when this is cancelled: nobody would watch it
            child.kill()
            await child.wait()
            self._child = None
            self.ready.clear()
            with contextlib.suppress(OSError):
                self._run_dir.remove_pid(self.name)

    async def _tell_settings(self, child: Child) -> None:
        await self.go.wait()
        await child.tell(self._settings(self._explained))

    async def _remind(self) -> None:
        """Say that it takes long to come back; of the first start the cluster tells."""
        if self._was_ready:
            await remind(lambda: "" if self.ready.is_set() or self._stopping.is_set() else self.name, self._say)

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

    def _check_first_start(self, code: int | None, how: str, defects: int) -> None:
        if self._was_ready:
            return
        if code == WRONG_USAGE or (code == REFUSED and not self._served.is_set()):
            raise StartRefusedError(f"{self.name} can't start, see above")
        if defects >= MAX_FIRST_STARTS and not self._served.is_set():
            raise InternalError(f"{self.name} {how} {defects} times before it was ready")
