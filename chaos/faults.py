"""Makes faults in a cluster at random: their kinds, targets and times."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from chaos.cluster import EDGES, RUNNERS, BrokenCluster

PAUSE_SECONDS: Final = (0.3, 3.0)
"""Least and most time between two faults."""
STOPPED_SECONDS: Final = (0.2, 8.0)
"""Least and most time that a process is stopped; a lease lasts 6 s."""


@dataclass(slots=True)
class InjectedFault:
    """A fault that was made; times are of `time.monotonic()`.

    Attributes:
        kind: what was done.
        target: to what.
        role: of the target: `OWNER`, `LEADER` or `EVERYTHING`, or empty.
        struck: when it was killed, after it had been found out who is to be; None: it was not, or at `began`.
    """

    kind: str
    target: str
    began: float
    ended: float
    role: str = ""
    struck: float | None = None


class Made(NamedTuple):
    """The target of a fault that was made, its role, and when it was killed, if it was."""

    target: str
    role: str = ""
    struck: float | None = None


OWNER: Final = "owner"
"""Role of the router that serves."""
LEADER: Final = "leader"
"""Role of the server of the replicated log that every append goes through."""
EVERYTHING: Final = "everything"
"""Role of all processes together."""
NOTHING: Final = Made("")

Kinds = Sequence[tuple[int, Callable[[], Awaitable[Made]], str]]
"""Kinds of faults: how often each is made relative to the others, what makes it, and its name."""


class FaultInjector:
    """Makes faults at random, one after another, and reports each."""

    def __init__(self, cluster: BrokenCluster, chance: random.Random, report: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._report = report
        self._chance = chance
        self.faults: list[InjectedFault] = []

    async def run(self, seconds: float) -> None:
        """Make faults for some time, then let the cluster run undisturbed."""
        kinds = self.kinds()
        weights = [weight for weight, _, _ in kinds]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(self._chance.uniform(*PAUSE_SECONDS))
            ((_, make, kind),) = self._chance.choices(kinds, weights)
            began = time.monotonic()
            made = await make()
            if made.target:
                fault = InjectedFault(kind, made.target, began, time.monotonic(), made.role, made.struck)
                self.faults.append(fault)
                lasted = f", {fault.ended - fault.began:.1f} s"
                self._report(f"{kind}: {made.target}{f' ({made.role})' if made.role else ''}{lasted}")

    def kinds(self) -> Kinds:
        """Return the kinds of faults that are made."""
        return [
            (8, self._kill, "kill -9"),
            (4, self._terminate, "SIGTERM"),
            (5, self._stop, "SIGSTOP"),
            (4, self._kill_worker, "kill -9 of a runner's child"),
            (1, self._kill_all, "kill -9 of everything"),
        ]

    async def _kill(self) -> Made:
        target = self._chance.choice(self._cluster.processes)
        return await self._signal(target, signal.SIGKILL)

    async def _terminate(self) -> Made:
        return await self._signal(self._chance.choice((*EDGES, *RUNNERS, *self._cluster.routers)), signal.SIGTERM)

    async def _stop(self) -> Made:
        made = await self._signal(self._chance.choice(self._cluster.processes), signal.SIGSTOP)
        if made.target:
            try:
                await asyncio.sleep(self.stopped_seconds())
            finally:
                self._cluster.signal(made.target, signal.SIGCONT)
        return made

    def stopped_seconds(self) -> float:
        """Return how long a process is to be stopped."""
        return self._chance.uniform(*STOPPED_SECONDS)

    async def _kill_worker(self) -> Made:
        target = self._chance.choice(RUNNERS)
        return Made(target) if self._cluster.kill_children(target) else NOTHING

    async def _kill_all(self) -> Made:
        await self._cluster.kill()
        await self._cluster.start()
        return Made("everything", EVERYTHING)

    async def _signal(self, target: str, number: signal.Signals) -> Made:
        role = OWNER if target in self._cluster.routers and await self._cluster.owner() == target else ""
        struck = time.monotonic()
        return Made(target, role, struck) if self._cluster.signal(target, number) else NOTHING
