"""The dependencies that all parts of a shard runtime share: scheduling core, storage, runners and observers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

import attrs
from prometheus_client import CollectorRegistry

from flowhook.limits import MIB
from flowhook.sharing.table import RouterLimits
from router.dispatch.effects import EffectQueue
from router.dispatch.flow_statistics import FlowStatisticsCounter
from router.dispatch.metrics import RouterMetrics
from router.dispatch.observers import AwaitedEvents, EndReader, ExecutionRecords, ExecutionWatchers, ReplyWaiters
from router.dispatch.runners import AttachedRunners
from router.dispatch.state_writer import AttemptLog, LifecycleOutbox, RetryingWriter
from router.scheduling.outages import Outages
from router.scheduling.shard import Shard
from router.scheduling.subscriptions import EventBuffer, Subscriptions
from router.storage.event_log import EventLog
from router.storage.shard_state import ShardState

DEFAULT_BYTES: Final = 64 * MIB


class CachedEvent(NamedTuple):
    """A serialized event and the flow revision it is pinned to."""

    flow_revision: int
    payload: bytes


@attrs.define(eq=False, repr=False)
class EventCache:
    """Caches events as long as they fit; others are read from storage when they are dispatched."""

    _max_bytes: int = DEFAULT_BYTES
    _payloads: dict[int, CachedEvent] = attrs.field(init=False, factory=dict)
    bytes: int = attrs.field(init=False, default=0)

    def put(self, seq: int, event: CachedEvent) -> None:
        """Store an event, unless the cache is full: the older events in it are needed sooner."""
        if self.bytes + len(event.payload) <= self._max_bytes:
            self._payloads[seq] = event
            self.bytes += len(event.payload)

    def pop(self, seq: int) -> CachedEvent | None:
        payload = self._payloads.pop(seq, None)
        if payload is not None:
            self.bytes -= len(payload.payload)
        return payload


@attrs.define(eq=False, repr=False)
class Alarm:
    """A timer that calls `ring` at the earliest of the times that it was set to since then."""

    _ring: Callable[[], None]
    _timer: asyncio.TimerHandle | None = attrs.field(init=False, default=None)

    def set(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if self._timer is None or due < self._timer.when():
            self.cancel()
            self._timer = loop.call_at(due, self._on_due)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_due(self) -> None:
        self._timer = None
        self._ring()


@attrs.define(eq=False, repr=False, kw_only=True)
class ShardParts:
    """The parts of one shard that the others are built upon."""

    shard: Shard
    state: ShardState
    log: EventLog
    registry: CollectorRegistry  # of metrics
    clock: Callable[[], float]  # monotonic, in seconds
    now_ms: Callable[[], int]  # Unix time
    limits: RouterLimits
    subscriptions: Subscriptions = attrs.field(init=False, factory=Subscriptions)
    buffer: EventBuffer = attrs.field(init=False, factory=EventBuffer)
    cache: EventCache = attrs.field(init=False, factory=EventCache)
    effects: EffectQueue = attrs.field(init=False, factory=EffectQueue)
    end_readers: list[EndReader] = attrs.field(init=False, factory=list)  # few, each of which bounds what it awaits
    awaited: AwaitedEvents = attrs.field(init=False, factory=AwaitedEvents)
    outbox: LifecycleOutbox = attrs.field(init=False)
    writer: RetryingWriter = attrs.field(init=False)
    attempt_log: AttemptLog = attrs.field(init=False)
    executions: ExecutionRecords = attrs.field(init=False)
    waiters: ReplyWaiters = attrs.field(init=False)
    watchers: ExecutionWatchers = attrs.field(init=False)
    statistics: FlowStatisticsCounter = attrs.field(init=False)
    metrics: RouterMetrics = attrs.field(init=False)
    runners: AttachedRunners = attrs.field(init=False)
    outages: Outages = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        policy = self.shard.queues.policy
        self.outages = Outages(
            lambda flow_id: policy(flow_id).outage,
            lambda flow_id: policy(flow_id).paused,
            lambda seq: self.shard.leases.of(seq) is not None,
        )
        self.outbox = LifecycleOutbox(self.now_ms, by_executions=self.subscriptions.lifecycle, effects=self.effects)
        self.writer = RetryingWriter(self.state, self.outbox)
        self.attempt_log = AttemptLog(self.shard, self.writer, self.now_ms)
        self.executions = ExecutionRecords(self.shard, self.outages, self.state, self.clock, self.now_ms)
        self.waiters = ReplyWaiters(self.limits)
        self.watchers = ExecutionWatchers(self.executions.read_whole, self.limits.execution_watches)
        self.statistics = FlowStatisticsCounter(self.now_ms())
        self.metrics = RouterMetrics(self.registry, self.statistics)
        self.runners = AttachedRunners(
            shard=self.shard, outbox=self.outbox, writer=self.writer, metrics=self.metrics, clock=self.clock
        )
