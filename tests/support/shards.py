"""A shard's host on real storage without the network around it, and what tests do to it: gates, failures, a clock."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import orjson
from prometheus_client import CollectorRegistry
from support.patience import PATIENCE

from flowhook.attach.messages import Checkpoint, Outcome, Parked
from flowhook.errors import UnavailableError
from flowhook.events import ids
from flowhook.sharing.table import RouterLimits
from router.dispatch.parts import ShardParts
from router.dispatch.shard_runtime import ShardRuntime
from router.scheduling.shard import Shard
from router.storage.model import NewEvent, NewInboundEvent
from router.storage.storage import open_storage


class Clock:
    """A clock that tests can push ahead, or set back."""

    def __init__(self, read):
        self.ahead = 0.0
        self._read = read

    def stop(self, at):
        """Have it show this moment until it is stopped at another one."""
        self._read, self.ahead = lambda: at, 0.0

    def __call__(self):
        return self._read() + self.ahead


class Faulty:
    """Storage's state with faults: `away` fails every write; `held` seqs are not read until released.

    `late` are reads by name that return what they found only when their gate opens.
    """

    def __init__(self, state):
        self._state = state
        self.away = False
        self.refused = asyncio.Event()
        self.has_unsent = asyncio.Event()
        self.held = {}
        self.broken = {}
        self.late = {}
        self.reading = asyncio.Event()
        self.reads = []

    def __getattr__(self, name):
        return getattr(self._state, name)

    async def write(self, changes, **options):
        if self.away:
            self.refused.set()
            raise UnavailableError("storage is away", reason="STORAGE_UNAVAILABLE")
        self.has_unsent.set()
        await self._state.write(changes, **options)

    async def work(self, seqs):
        self.reads.append(list(seqs))
        for seq in seqs:
            if seq in self.held:
                await self.held[seq].wait()
            if seq in self.broken:
                raise self.broken[seq]
        return await self._state.work(seqs)

    async def _found(self, name, wanted):
        found = await getattr(self._state, name)(wanted)
        if name in self.late:
            self.reading.set()
            await self.late[name].wait()
        return found

    async def journal_sizes(self, seqs):
        return await self._found("journal_sizes", seqs)

    async def find_by_ids(self, execution_ids):
        return await self._found("find_by_ids", execution_ids)

    async def find(self, execution_id):
        return await self._found("find", execution_id)

    async def records(self, seqs):
        return await self._found("records", seqs)

    async def inbound_payloads(self, numbers):
        return await self._found("inbound_payloads", numbers)

    async def latest_requests(self, flow_ids):
        return await self._found("latest_requests", flow_ids)

    def delay(self, name):
        """Have a kind of read come late from now on; returns the gate."""
        self.reading.clear()
        self.late[name] = asyncio.Event()
        return self.late[name]

    def hold(self, *seqs):
        gate = asyncio.Event()
        self.held.update(dict.fromkeys(seqs, gate))
        return gate


class Link:
    """An attached runner that keeps what it is told."""

    def __init__(self, runner_id="r1"):
        self.runner_id = runner_id
        self.full = False
        self.deliveries = []
        self.urgent = []  # for each of them, whether it was sent at once
        self.arrivals = []
        self.acknowledged = []
        self.settled = []
        self.revoked = []
        self.wanted = []
        self.error = None
        self._news = asyncio.Condition()
        self._seen = 0

    async def room(self):
        async with self._news:
            await self._news.wait_for(lambda: not self.full)

    def _tell(self):
        async def tell():
            async with self._news:
                self._news.notify_all()

        self._telling = asyncio.ensure_future(tell())

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(condition)

    def assign(self, deliveries, *, urgent=False):
        self.deliveries += deliveries
        self.urgent += [urgent] * len(deliveries)
        self._tell()

    def hand_over(self, arrival, *, urgent=False):
        self.arrivals.append(arrival)
        self._tell()

    def want(self, types):
        self.wanted.append(types)

    def acknowledge(self, token, position, number=0, *, urgent=False):
        self.acknowledged.append((token, position))
        self._tell()

    def settle(self, tokens):
        self.settled += tokens
        self._tell()

    def revoke(self, tokens, reason):
        self.revoked += [(token, reason) for token in tokens]
        self._tell()

    def close(self, error):
        self.error = error
        self._tell()

    def deliver(self):
        self.full = False
        self._tell()

    async def next(self, count=1):
        """Wait for so many deliveries more and return them."""
        start, self._seen = self._seen, self._seen + count
        await self.until(lambda: len(self.deliveries) >= self._seen)
        return self.deliveries[start : self._seen]


class RunningHost:
    """A host that runs, its storage, and shorthands."""

    def __init__(self, storage, state, host, *, clock, wall, running):
        self.storage = storage
        self.state = state
        self.host = host
        self.core = host.shard
        self.clock = clock
        self.wall = wall
        self.dead = False
        self._running = running

    async def die(self):
        """Stop in the middle of everything: what was handed to storage before is stored, and nothing else is."""
        self.dead = True
        await self.storage.own()  # from here on nobody listens to it
        self.host.parts.writer.close()
        self._running.cancel()
        await asyncio.wait([self._running])

    async def append(self, flow_id="a", *payloads, at_ms=1000, **fields):
        events = [
            NewEvent(ids.mint(ids.slot_of(flow_id)), flow_id, 1, at_ms, payload, **fields)
            for payload in payloads or (b"payload",)
        ]
        return [appended.seq for appended in await self.host.append(events)]

    def attach(self, runner_id="r1", *, credit=10, held=(), explained=True):
        link = Link(runner_id)
        link.kept = self.host.attach(link, held, explained=explained)
        if credit:
            assert self.host.add_credit(link, credit)
        return link

    async def work_on(self, link, flow_id="a"):
        """Start an execution, and return what its runner got."""
        await self.append(flow_id)
        [delivery] = await link.next()
        return delivery

    async def settle(self, link, delivery, ending, *entries):
        """End an attempt; `entries` are journaled after those it began with."""
        start = delivery.journal_start + len(delivery.journal)
        checkpoints = [Checkpoint(delivery.lease, start + index, entry) for index, entry in enumerate(entries)]
        await self.host.recorder.settle(link, [Outcome(delivery.lease, ending, checkpoints=tuple(checkpoints))])

    async def park(self, link, delivery, *subscriptions, wake_at_ms=None, entries=()):
        """Have an execution wait."""
        await self.settle(link, delivery, Parked(wake_at_ms, subscriptions), *entries)

    async def publish(self, flow_id="a", type_="approval", data=None, **fields):
        """Publish an event to executions of a flow, and return what became of it."""
        payload = orjson.dumps({"type": type_, "data": data})
        event_id = fields.pop("event_id", None) or ids.mint(ids.slot_of(flow_id))
        callback = fields.pop("callback", True)
        arrival = NewInboundEvent(event_id, flow_id, callback, type_, int(self.wall() * 1000), payload, **fields)
        [appended] = await self.host.events.publish([arrival])
        return appended

    def now_ms(self):
        """Read the host's wall clock."""
        return round(self.wall() * 1000)

    def forget_payloads(self):
        """Have what was accepted read from storage."""
        for seq in list(self.host.parts.cache._payloads):
            self.host.parts.cache.pop(seq)

    async def record(self, seq):
        return (await self.state.records([seq]))[seq]


@asynccontextmanager
async def running_host(
    path,
    *,
    lease_seconds=60.0,
    reattach_seconds=2.0,
    max_attempts=5,
    buffer_seconds=3600.0,
    ahead=0.0,
    limits=RouterLimits(),
    registry=None,
):
    storage = await open_storage(path / "flowhook.db")
    state = Faulty(await storage.own())
    clock, wall = Clock(time.monotonic), Clock(time.time)
    wall.ahead = ahead
    core = Shard(
        epoch=state.epoch, lease_seconds=lease_seconds, max_attempts=max_attempts, reattach_seconds=reattach_seconds
    )
    parts = ShardParts(
        shard=core,
        state=state,
        log=storage.log,
        registry=registry or CollectorRegistry(),
        clock=clock,
        now_ms=lambda: round(wall() * 1000),
        limits=limits,
    )
    host = ShardRuntime(parts, buffer_seconds=buffer_seconds)
    await host.recover()
    await host.settle()
    stop = asyncio.Event()
    running = asyncio.create_task(host.run(stop))
    await asyncio.sleep(0)
    try:
        yield (shard := RunningHost(storage, state, host, clock=clock, wall=wall, running=running))
    finally:
        state.away = False
        for gate in (*state.held.values(), *state.late.values()):
            gate.set()
        stop.set()
        await asyncio.wait([running])
        await storage.close()
        if not shard.dead:
            await running
