"""Faults: what is done to a cluster, when, and to whom."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from chaos.cluster import EDGES, PROCESSES, RUNNERS, BrokenCluster

PAUSE_SECONDS: Final = (0.3, 3.0)
"""Least and most time between two faults."""
STOPPED_SECONDS: Final = (0.2, 8.0)
"""Least and most time that a process is stopped; a lease lasts 6 s."""


@dataclass(slots=True)
class Fault:
    """A fault that was made; times are of `time.monotonic()`."""

    kind: str
    target: str
    began: float
    ended: float


class FaultInjector:
    """Makes faults at random, one after another."""

    def __init__(self, cluster: BrokenCluster, chance: random.Random) -> None:
        self._cluster = cluster
        self._chance = chance
        self.faults: list[Fault] = []

    async def run(self, seconds: float) -> None:
        """Make faults for some time, then let the cluster run undisturbed."""
        kinds: list[tuple[int, Callable[[], Awaitable[str]], str]] = [
            (8, self._kill, "kill -9"),
            (4, self._terminate, "SIGTERM"),
            (5, self._stop, "SIGSTOP"),
            (4, self._kill_worker, "kill -9 of a runner's child"),
            (1, self._kill_all, "kill -9 of everything"),
        ]
        weights = [weight for weight, _, _ in kinds]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(self._chance.uniform(*PAUSE_SECONDS))
            ((_, make, kind),) = self._chance.choices(kinds, weights)
            began = time.monotonic()
            if target := await make():
                self.faults.append(Fault(kind, target, began, time.monotonic()))

    async def _kill(self) -> str:
        return self._signal(self._chance.choice(PROCESSES), signal.SIGKILL)

    async def _terminate(self) -> str:
        return self._signal(self._chance.choice((*EDGES, *RUNNERS, "router-1")), signal.SIGTERM)

    async def _stop(self) -> str:
        target = self._signal(self._chance.choice(PROCESSES), signal.SIGSTOP)
        if target:
            try:
                await asyncio.sleep(self._chance.uniform(*STOPPED_SECONDS))
            finally:
                self._cluster.signal(target, signal.SIGCONT)
        return target

    async def _kill_worker(self) -> str:
        target = self._chance.choice(RUNNERS)
        return target if self._cluster.kill_children(target) else ""

    async def _kill_all(self) -> str:
        await self._cluster.kill()
        await self._cluster.start()
        return "everything"

    def _signal(self, target: str, number: signal.Signals) -> str:
        return target if self._cluster.signal(target, number) else ""
