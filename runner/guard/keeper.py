"""Keeps a child alive: starts it, watches it, kills it when it must die, and tells the next one why.

A spare child, its imports done, waits to take over: what a runaway expression costs its neighbours is one reconnection,
not the start of a process.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

from flowhook import logs
from flowhook.config import RunnerSettings, read_token
from flowhook.process import Lifecycle
from runner import control
from runner.guard.child import Child
from runner.guard.watch import Verdict, confessed

MIN_BACKOFF: Final = 0.1
MAX_BACKOFF: Final = 5.0
"""Seconds before a child that died by itself is replaced, doubled each time."""
STABLE_SECONDS: Final = 10.0
"""A child that lived so long is not part of a series of crashes."""

DRAIN_MARGIN: Final = 4.0
"""Seconds beyond `drain_seconds` that a child has to end: its last outcomes have to be settled."""

log = logs.get_logger(__name__)


class Keeper:
    """The parent's whole work."""

    def __init__(self, settings: RunnerSettings, lifecycle: Lifecycle) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._token = read_token(settings, "runner")
        self._casualties: dict[bytes, control.Casualty] = {}
        # of what a runner of this name held before this process was started nothing is known
        self._explained = False
        self._kills = 0
        self._lack_told = False
        self._spare: asyncio.Task[Child] | None = None

    async def run(self) -> None:
        """Keep a child working until `lifecycle.stop`, then have it drain."""
        backoff = MIN_BACKOFF
        try:
            while not self._lifecycle.stop.is_set():
                child = await self._take_child()
                began = time.monotonic()
                try:
                    verdict = await self._accompany(child)
                    self._note_death(child, verdict)
                finally:
                    await child.close()
                if self._lifecycle.stop.is_set():
                    return
                if verdict is not None and verdict.error is not None:
                    backoff = MIN_BACKOFF
                    continue
                if time.monotonic() - began > STABLE_SECONDS:
                    backoff = MIN_BACKOFF
                await self._pause(backoff * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                backoff = min(backoff * 2, MAX_BACKOFF)
        finally:
            await self._drop_spare()

    async def _accompany(self, child: Child) -> Verdict | None:
        """Have a child work until it ends; returns why it was killed, None when it ended by itself."""
        child.pipe.send(
            control.Begin(
                settings=self._settings,
                token=self._token,
                runner_id=self._lifecycle.name,
                casualties=tuple(self._casualties.values()),
                losses_explained=self._explained,
                kills=self._kills,
            )
        )
        listener = asyncio.create_task(self._listen(child), name="listen to child")
        watcher = asyncio.create_task(child.watch(self._settings), name="watch child")
        stopper = asyncio.create_task(self._stop(child), name="stop child")
        ended = asyncio.create_task(child.process.wait(), name="wait for child")
        try:
            await asyncio.wait({watcher, stopper, ended}, return_when=asyncio.FIRST_COMPLETED)
            # the verdict stands even if the child died of it, or of something else, in the same instant
            verdict = watcher.result() if watcher.done() else None
            await child.kill()
            return verdict
        finally:
            for task in (listener, watcher, stopper, ended):
                task.cancel()
            await asyncio.gather(listener, watcher, stopper, ended, return_exceptions=True)
            self._lifecycle.ready.clear()

    async def _listen(self, child: Child) -> None:
        while (message := await child.pipe.receive()) is not None:
            match message:
                case control.Attached():
                    self._explained = True
                    self._lack_told = False
                    self._lifecycle.ready.set()
                    self._prepare_spare()
                case control.Detached(detail=detail):
                    self._lifecycle.detail = detail
                    self._lifecycle.ready.clear()
                    self._tell_lack(detail)
                case control.Reported(lease=lease):
                    self._casualties.pop(lease, None)
                case _:
                    log.warning("unexpected message of the child", kind=type(message).__name__)

    def _tell_lack(self, detail: str) -> None:
        """Say that there is no router, once and not with every attempt; silence would look like want of work."""
        if not (self._lack_told or self._lifecycle.stop.is_set()):
            log.warning("not attached; trying again", router=self._settings.router, detail=detail)
            self._lack_told = True

    async def _stop(self, child: Child) -> None:
        """Drain the child once this runner is told to stop; returns when it ought to have ended."""
        await self._lifecycle.stop.wait()
        child.pipe.send(control.Drain(self._settings.drain_seconds))
        await asyncio.sleep(self._settings.drain_seconds + DRAIN_MARGIN)
        log.warning("the child did not drain in time")

    def _note_death(self, child: Child, verdict: Verdict | None) -> None:
        """Remember what the next child has to report."""
        if verdict is not None and verdict.error is not None and verdict.evaluation is not None:
            self._kills += 1
            lease = verdict.evaluation.lease
            if lease:
                self._casualties[lease] = control.Casualty(lease, verdict.error)
            log.warning("child killed", cause=verdict.reason, task=verdict.evaluation.instance)
            return
        if self._lifecycle.stop.is_set() and child.process.returncode == 0:
            return
        evaluation = child.record.read()
        if confessed(evaluation, child.process.returncode):
            # as good as a confession, but no proof
            self._casualties.setdefault(evaluation.lease, control.Casualty(evaluation.lease, None))
        else:
            self._explained = False
        log.warning("child died", returncode=child.process.returncode, cause=verdict.reason if verdict else "not known")

    async def _take_child(self) -> Child:
        spare, self._spare = self._spare, None
        if spare is not None:
            try:
                child = await spare
            except OSError:
                child = None
            if child is not None:
                if child.process.returncode is None:
                    return child
                await child.close()
        return await Child.spawn()

    def _prepare_spare(self) -> None:
        if self._spare is None and not self._lifecycle.stop.is_set():
            self._spare = asyncio.create_task(Child.spawn(), name="spawn spare")

    async def _drop_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is None:
            return
        try:
            child = await spare
        except OSError:
            return
        await child.close()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._lifecycle.stop.wait()
        except TimeoutError:
            pass
