"""Faults of a cluster on a replicated log: its owner, its NATS servers, and the connections between them."""

from __future__ import annotations

import asyncio
import math
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psutil

from chaos.faults import KILL, LEADER, NOTHING, OWNER, STOP, FaultInjector, Kinds, Made
from chaos.proxies import Disturbance, Mode
from chaos.replicated_cluster import ReplicatedCluster
from cli.supervisor.nats_servers import NAMES

STOPPED_SECONDS: Final = (0.2, 30.0)
"""Least and most time that a process is stopped; short stops are more frequent."""
AWAY_SECONDS: Final = (0.1, 5.0)
"""Least and most time until a server that was ended is started again."""
DISTURBED_SECONDS: Final = (0.3, 8.0)
DELAY_SECONDS: Final = (0.02, 1.0)
STEP_DOWNS: Final = 6
STEP_DOWN_PAUSE_SECONDS: Final = (0.05, 1.0)
VIEW_GROWTH_BYTES: Final = 64 * 1024
"""Most bytes by which a view may still grow on a full disk."""


class ReplicatedFaultInjector(FaultInjector):
    """Makes faults at random.

    Args:
        cluster: breaks.
        chance: decides.
        report: see `FaultInjector`.
        has_recovered: see `FaultInjector`.
        longest: most time that a process is stopped (s).
    """

    def __init__(
        self,
        cluster: ReplicatedCluster,
        chance: random.Random,
        report: Callable[[str], None],
        *,
        has_recovered: Callable[[float], bool],
        longest: float,
    ) -> None:
        super().__init__(cluster, chance, report, has_recovered=has_recovered)
        self._replicated = cluster
        self._ending = asyncio.Lock()
        self._longest = min(longest, STOPPED_SECONDS[1])

    def kinds(self) -> Kinds:
        """See `FaultInjector`."""
        full = [(2, self._fill_view, "view that can't grow")] if hasattr(psutil.Process, "rlimit") else []
        return [
            *super().kinds(),
            *full,
            (4, self._kill_owner, KILL),
            (2, self._stop_owner, STOP),
            (4, self._kill_server, "kill -9 of a NATS server"),
            (2, self._kill_leader, "kill -9 of a NATS server"),
            (2, self._kill_two_servers, "kill -9 of two NATS servers"),
            (2, self._restart_server, "restart of a NATS server"),
            (2, self._stop_server, "SIGSTOP of a NATS server"),
            (6, self._disturb, "disturbed connections"),
            (2, self._step_down, "step-downs of the log's leader"),
        ]

    def stopped_seconds(self) -> float:
        """See `FaultInjector`."""
        least, most = STOPPED_SECONDS[0], max(STOPPED_SECONDS[0], self._longest)
        return math.exp(self._chance.uniform(math.log(least), math.log(most)))

    async def _kill_owner(self) -> Made:
        owner = await self._cluster.owner()
        return await self._signal(owner, signal.SIGKILL) if owner else NOTHING

    async def _stop_owner(self) -> Made:
        owner = await self._cluster.owner()
        if not owner or not self._cluster.signal(owner, signal.SIGSTOP):
            return NOTHING
        try:
            await asyncio.sleep(self.stopped_seconds())
        finally:
            self._cluster.signal(owner, signal.SIGCONT)
        return Made(owner, OWNER)

    async def _kill_server(self) -> Made:
        return await self._end([self._chance.choice(NAMES)], signal.SIGKILL)

    async def _kill_leader(self) -> Made:
        leader = await self._replicated.servers.leader()
        return await self._end([leader], signal.SIGKILL) if leader else NOTHING

    async def _kill_two_servers(self) -> Made:
        return await self._end(self._chance.sample(NAMES, 2), signal.SIGKILL)

    async def _restart_server(self) -> Made:
        return await self._end([self._chance.choice(NAMES)], signal.SIGTERM)

    async def _stop_server(self) -> Made:
        made = Made(self._chance.choice(NAMES))
        if not self._cluster.signal(made.target, signal.SIGSTOP):
            return NOTHING
        try:
            await asyncio.sleep(self.stopped_seconds())
        finally:
            self._cluster.signal(made.target, signal.SIGCONT)
        return made

    async def _end(self, names: list[str], number: signal.Signals) -> Made:
        """End servers, and start them again after a while; one such fault at a time."""
        servers = self._replicated.servers
        async with self._ending:
            role = LEADER if await servers.leader() in names else ""
            struck = time.monotonic()
            await asyncio.gather(*(servers.end(name, number) for name in names))
            await asyncio.sleep(self._chance.uniform(*AWAY_SECONDS))
            for name in names:
                await servers.start_one(name)
        return Made(" and ".join(names), role, struck)

    async def _disturb(self) -> Made:
        disturbance = Disturbance(
            self._chance.choice(list(Mode)),
            router=self._chance.choice((*self._cluster.routers, await self._cluster.owner(), "")),
            server=self._chance.choice((*NAMES, "", "", "")),
            delay=self._chance.uniform(*DELAY_SECONDS),
        )
        await self._replicated.proxies.disturb(disturbance, self._chance.uniform(*DISTURBED_SECONDS))
        ends = f"{disturbance.router or 'all routers'} with {disturbance.server or 'all servers'}"
        return Made(f"{ends}: {disturbance.mode}")

    async def _step_down(self) -> Made:
        done = 0
        for _ in range(self._chance.randint(1, STEP_DOWNS)):
            done += await self._replicated.servers.step_down()
            await asyncio.sleep(self._chance.uniform(*STEP_DOWN_PAUSE_SECONDS))
        return Made(f"{done} times") if done else NOTHING

    async def _fill_view(self) -> Made:
        """Have the system fail a router's writes beyond an offset that its view is about to reach (RLIMIT_FSIZE)."""
        target = self._chance.choice((await self._cluster.owner(), *self._cluster.routers))
        pid = self._cluster.pid(target)
        if pid is None:
            return NOTHING
        files = list((self._cluster.data_dir / target).glob("view.db*"))
        limit = max((path.stat().st_size for path in files if path.exists()), default=0)
        limit += self._chance.randrange(VIEW_GROWTH_BYTES)
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            before = process.rlimit(psutil.RLIMIT_FSIZE)
            process.rlimit(psutil.RLIMIT_FSIZE, (limit, before[1]))
            try:
                await asyncio.sleep(self._chance.uniform(*DISTURBED_SECONDS))
            finally:
                with suppress(psutil.Error):
                    process.rlimit(psutil.RLIMIT_FSIZE, before)
            return Made(target, OWNER if await self._cluster.owner() == target else "")
        return NOTHING
