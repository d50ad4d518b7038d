"""Makes faults in a cluster at random: their kinds, targets and times.

They are made in *rounds*: one fault, or several at once. After each round the cluster recovers, and then runs for a
while undisturbed. So it is known of each moment which faults can have to do with it.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from chaos.cluster import EDGES, RUNNERS, BrokenCluster

MOST_TOGETHER: Final = 4
"""Most faults of one round."""
RECOVERY_SECONDS: Final = 90.0
"""Time after which the next round is made although the cluster has not recovered."""
STOPPED_SECONDS: Final = (0.2, 10.0)
"""Least and most time that a process is stopped; a lease lasts 6 s."""


@dataclass(slots=True)
class InjectedFault:
    """A fault that was made; times are of `time.monotonic()`.

    Attributes:
        kind: what was done.
        target: to what.
        role: of the target: `OWNER`, `LEADER` or `EVERYTHING`, or empty.
        struck: when it was killed, after it had been found out who is to be; None: it was not, or at `began`.
        recovered: when all processes worked again, or the next round was made in spite of it; None: not yet.
    """

    kind: str
    target: str
    began: float
    ended: float
    role: str = ""
    struck: float | None = None
    recovered: float | None = None

    def hits(self, runner: str) -> bool:
        """Whether it can have to do with work of a runner: edges, admin and the other runners are apart from it."""
        return self.target not in APART or self.target == runner or (not runner and self.target in RUNNERS)

    def lasts_at(self, began: float, ended: float) -> bool:
        """Whether it, or the recovery from it, overlaps a time."""
        return self.began <= ended and (self.recovered is None or began <= self.recovered)


@dataclass(frozen=True, slots=True)
class Aim:
    """What is left of the faults of a process: kinds, targets, and how long processes are stopped (s)."""

    kinds: frozenset[str]
    targets: frozenset[str]
    stopped_seconds: tuple[float, float] = STOPPED_SECONDS


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast faults follow one another.

    Attributes:
        quiet_seconds: least and most time between the recovery from one round and the next one.
        together: share of the rounds in which several faults are made at once.
        apart_seconds: most time between the beginnings of the first fault of a round and of another one.
        look_seconds: time between two looks at whether the cluster has recovered.
    """

    quiet_seconds: tuple[float, float] = (3.0, 9.0)
    together: float = 0.35
    apart_seconds: float = 2.5
    look_seconds: float = 0.2


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
PACE: Final = Pace()
ALL_AT_ONCE: Final = "kill -9 of everything"
APART: Final = frozenset({*EDGES, *RUNNERS, "admin-1"})
"""Processes whose faults have nothing to do with work of a runner, unless they are that runner."""
KILL: Final = "kill -9"
STOP: Final = "SIGSTOP"

Kinds = Sequence[tuple[int, Callable[[], Awaitable[Made]], str]]
"""Kinds of faults: how often each is made relative to the others, what makes it, and its name."""


class FaultInjector:
    """Makes faults at random, and reports each.

    Args:
        cluster: breaks.
        chance: decides.
        report: is given a line for each fault.
        has_recovered: whether the cluster does all of its work again, as was seen since a time.
        aim: leaves only some kinds of faults, and targets; None: none is left out.
        pace: how fast they follow one another.
    """

    def __init__(
        self,
        cluster: BrokenCluster,
        chance: random.Random,
        report: Callable[[str], None],
        *,
        has_recovered: Callable[[float], bool],
        aim: Aim | None = None,
        pace: Pace = PACE,
    ) -> None:
        self._cluster = cluster
        self._report = report
        self._chance = chance
        self._has_recovered = has_recovered
        self._aim = aim
        self._pace = pace
        self._ended: dict[str, int | None] = {}
        """Processes that were to end in this round, with their IDs: they have to be others before it is over."""
        self.faults: list[InjectedFault] = []

    async def run(self, seconds: float) -> None:
        """Make faults for some time, and wait until the cluster has recovered from the last ones."""
        await self._recover([], time.monotonic())  # it has just been started
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(self._chance.uniform(*self._pace.quiet_seconds))
            self._ended.clear()
            round_ = await self._make_round()
            self.faults += round_
            await self._recover(round_, time.monotonic())

    async def _make_round(self) -> list[InjectedFault]:
        kinds = [kind for kind in self.kinds() if self._aim is None or kind[2] in self._aim.kinds]
        count = self._chance.randint(2, MOST_TOGETHER) if self._chance.random() < self._pace.together else 1
        chosen: dict[str, Callable[[], Awaitable[Made]]] = {}
        for _ in range(count):
            ((_, make, kind),) = self._chance.choices(kinds, [weight for weight, _, _ in kinds])
            chosen[kind] = make
        if ALL_AT_ONCE in chosen:  # nothing is left that something else could be done to
            chosen = {ALL_AT_ONCE: chosen[ALL_AT_ONCE]}
        made = [
            self._make(kind, make, self._chance.uniform(0, self._pace.apart_seconds) if number else 0.0)
            for number, (kind, make) in enumerate(chosen.items())
        ]
        return [fault for fault in await asyncio.gather(*made) if fault is not None]

    async def _make(self, kind: str, make: Callable[[], Awaitable[Made]], delay: float) -> InjectedFault | None:
        await asyncio.sleep(delay)
        began = time.monotonic()
        made = await make()
        if not made.target:
            return None
        fault = InjectedFault(kind, made.target, began, time.monotonic(), made.role, made.struck)
        lasted = f", {fault.ended - fault.began:.1f} s"
        self._report(f"{kind}: {made.target}{f' ({made.role})' if made.role else ''}{lasted}")
        return fault

    async def _recover(self, faults: Sequence[InjectedFault], since: float) -> None:
        """Wait until all processes run, and work again; after `RECOVERY_SECONDS` go on in any case."""
        while not self._works(since):
            if time.monotonic() > since + RECOVERY_SECONDS:
                self._report(f"not recovered after {RECOVERY_SECONDS:g} s")
                break
            await asyncio.sleep(self._pace.look_seconds)
        recovered = time.monotonic()
        for fault in faults:
            fault.recovered = recovered

    def _works(self, since: float) -> bool:
        pids = {each: self._cluster.pid(each) for each in self._cluster.processes}
        return (
            all(pids.values())
            and all(pids[each] != pid for each, pid in self._ended.items())
            and self._has_recovered(since)
        )

    def kinds(self) -> Kinds:
        """Return the kinds of faults that are made."""
        return [
            (8, self._kill, KILL),
            (4, self._terminate, "SIGTERM"),
            (5, self._stop, STOP),
            (4, self._kill_worker, "kill -9 of a runner's child"),
            (1, self._kill_all, ALL_AT_ONCE),
        ]

    async def _kill(self) -> Made:
        return await self._signal(self._target(self._cluster.processes), signal.SIGKILL)

    async def _terminate(self) -> Made:
        return await self._signal(self._target((*EDGES, *RUNNERS, *self._cluster.routers)), signal.SIGTERM)

    async def _stop(self) -> Made:
        made = await self._signal(self._target(self._cluster.processes), signal.SIGSTOP)
        if made.target:
            try:
                await asyncio.sleep(self.stopped_seconds())
            finally:
                self._cluster.signal(made.target, signal.SIGCONT)
        return made

    def stopped_seconds(self) -> float:
        """Return how long a process is to be stopped."""
        return self._chance.uniform(*(STOPPED_SECONDS if self._aim is None else self._aim.stopped_seconds))

    def _target(self, processes: Sequence[str]) -> str:
        return self._chance.choice([each for each in processes if self._aim is None or each in self._aim.targets])

    async def _kill_worker(self) -> Made:
        target = self._target(RUNNERS)
        return Made(target) if self._cluster.kill_children(target) else NOTHING

    async def _kill_all(self) -> Made:
        await self._cluster.kill()
        await self._cluster.start()
        return Made("everything", EVERYTHING)

    async def _signal(self, target: str, number: signal.Signals) -> Made:
        role = OWNER if target in self._cluster.routers and await self._cluster.owner() == target else ""
        pid, struck = self._cluster.pid(target), time.monotonic()
        if not self._cluster.signal(target, number):
            return NOTHING
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._ended[target] = pid
        return Made(target, role, struck)
