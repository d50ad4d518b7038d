"""Cache of flows for admission: revision and limits of each, loaded on first use and updated from the registry.

The cache is bounded; an evicted flow loses nothing but the fill level of its rate limit. The cache follows the registry
by itself, so that a change takes effect no matter who made it, even if its caller is gone. Reads are serialized, so
that the result of an earlier one never replaces that of a later one. The triggers of all flows (schedules and events)
are passed on to subscribers, from the start on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import attrs
import orjson

from flowhook import limits
from flowhook.document.loader import FlowDocument, load_definition
from flowhook.document.models.execution import ExecutionPolicy, KeyedConcurrency, Order
from flowhook.document.models.webhook import Callback, RateLimit
from flowhook.document.named_secrets import parse_names
from flowhook.errors import InternalError, InvalidError, OutOfRangeError, UnavailableError
from flowhook.events import ids
from flowhook.events.keys import KeyExpressions, order_expression, shaping_expressions
from flowhook.model import Flow
from flowhook.process import logs
from flowhook.retrying import RETRY_SECONDS
from flowhook.sharing.token_bucket import TokenBucket
from router.dispatch.shard_runtime import ShardRuntime
from router.flows.event_triggers import FlowTriggers, parse_triggers
from router.scheduling.groups import GroupPolicy
from router.scheduling.outages import BreakerPolicy
from router.scheduling.queues import DEFAULT_POLICY, FlowPolicy
from router.scheduling.rates import RatePolicy
from router.storage.registry import Registry

MAX_FLOWS: Final = 20_000  # flows in the cache
PAGE: Final = 100  # definitions in one read, of at most 256 KiB each
DEFAULT_DEDUPE_SECONDS: Final = 24 * 3600.0  # window of dedupe keys for a flow that does not set one
log = logs.get_logger(__name__)


@dataclass(slots=True)
class CallbackEntry:
    """Admission settings of one callback of a flow."""

    bucket: TokenBucket | None  # its rate limit, if it has one
    dedupe_seconds: float  # how long dedupe keys are stored
    raw: bool  # whether bodies are passed on unparsed
    to_all: bool  # whether an event goes to all executions that wait for it, rather than to one
    only_one_time: bool  # whether it is reachable by one-time URLs only


@dataclass(slots=True)
class FlowEntry:
    """Admission settings of one flow."""

    id: str  # the flow's ID
    slot: int  # see `ids.slot_of`
    revision: int  # the latest one
    max_backlog: int  # executions that may be unfinished
    dedupe_seconds: float  # how long dedupe keys are stored
    bucket: TokenBucket | None  # its rate limit; None: it has none
    keys: KeyExpressions  # its `order_by` and `search`
    raw: bool  # whether bodies are passed on unparsed
    batches: bool  # whether one execution runs for several of its events
    callbacks: Mapping[str, CallbackEntry]  # those of the latest revision, by name
    versions: dict[str, int]  # latest revision of each document version that was asked for


class TriggerSink(Protocol):
    """Receives the triggers of flows and starts the flows by them. Calls may be repeated without a change."""

    def react(self, flow: Flow, triggers: FlowTriggers) -> None:
        """Replace the triggers of a flow; there may be none."""
        ...

    def remove(self, flow_id: str) -> None: ...


@attrs.define(eq=False, repr=False)
class FlowTable:
    """Flows by ID. Call `start`, then let `follow` run beside the server."""

    _registry: Registry
    _policies: ShardRuntime = attrs.field(kw_only=True)  # enforces the limits of flows
    _clock: Callable[[], float] = attrs.field(kw_only=True)
    _max_flows: int = attrs.field(default=MAX_FLOWS, kw_only=True)
    _page: int = attrs.field(default=PAGE, kw_only=True)
    _retry_seconds: float = attrs.field(default=RETRY_SECONDS, kw_only=True)
    _reacting: Sequence[TriggerSink] = attrs.field(init=False, default=())
    _entries: OrderedDict[str, FlowEntry] = attrs.field(init=False, factory=OrderedDict)
    _reactive: set[str] = attrs.field(init=False, factory=set)
    # secrets that the tasks of flows started by events name, of flows that name any
    _awaited_secrets: dict[str, frozenset[str]] = attrs.field(init=False, factory=dict)
    lacking: set[str] = attrs.field(init=False, factory=set)  # flows of those that wait because one is not set
    # flows with limits in force, including evicted and unreadable ones, so that a pause ends with its flow
    _limited: set[str] = attrs.field(init=False, factory=set)
    _reading: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)
    _changed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _notified: int = attrs.field(init=False, default=0)
    _applied: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._registry.follow(self._on_change)

    def known(self, flow_id: str) -> FlowEntry | None:
        return self._entries.get(flow_id)

    async def load(self, flow_id: str) -> FlowEntry | None:
        """Return a flow, read from the registry unless it is in memory; None if absent.

        Raises:
            InternalError: this version can't read its definition (`FLOW_UNREADABLE`).
        """
        async with self._reading:
            return self._entries.get(flow_id) or await self._read(flow_id)

    async def revision_of(self, entry: FlowEntry, version: str) -> int | None:
        if version not in entry.versions:
            found = await self._registry.find_revision(entry.id, version=version)
            if found is None:
                return None
            entry.versions[version] = found
        return entry.versions[version]

    async def start(self, unfinished: Mapping[str, int], reacting: Sequence[TriggerSink] = ()) -> None:
        """Apply the limits of flows with unfinished executions, and the triggers of all flows. Call it once.

        `unfinished` has a stored revision of each of those flows, which is used for deleted ones; `reacting` receive
        the triggers of flows, now and whenever one changes.
        """
        self._reacting = reacting
        self._notified = self._applied = await self._registry.revision()
        for flow_id, revision in unfinished.items():
            with suppress(InternalError):
                if await self._read(flow_id) is None:
                    flow = await self._registry.get_flow(flow_id, revision=revision)
                    if flow is not None:
                        policy = flow_policy(_read_definition(flow).execution, paused=flow.paused)
                        self._policies.set_policy(flow_id, policy)
                        self._policies.retire(flow_id)
        after = ""
        while flows := await self._registry.list_flows(after_id=after, limit=self._page, reacting=True):
            for flow in flows:
                with suppress(InternalError):  # there may be many flows: read triggers without building all models
                    self._react(flow, _read_reactions(flow, orjson.loads(flow.definition)))
                if await self._lacks_secret(flow.id):
                    with suppress(InternalError):
                        await self._read(flow.id)
            after = flows[-1].id

    async def follow(self) -> None:
        """Apply changes from the registry until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.catch_up()
            except UnavailableError as error:
                log.warning("reading changes of flows failed; trying again", reason=error.reason)
                await asyncio.sleep(self._retry_seconds)
                self._changed.set()

    async def catch_up(self) -> None:
        """Apply every change that was committed before the call; if storage can't serve, `follow` tries again."""
        async with self._reading:
            while self._applied < self._notified:
                try:
                    changes = await self._registry.changes(after_revision=self._applied)
                except OutOfRangeError:
                    await self._read_all()
                    continue
                secrets = {change.secret_name for change in changes}
                flow_ids = {change.flow_id for change in changes if change.flow_id}
                flow_ids.update(each for each, names in self._awaited_secrets.items() if names & secrets)
                for flow_id in flow_ids:
                    with suppress(InternalError):
                        await self._read(flow_id)
                self._applied = changes[-1].revision

    async def _read_all(self) -> None:
        """Read and apply all flows, because some changes are not in the registry's log of changes any more."""
        revision = await self._registry.revision()
        log.warning("too many changes at once; reading all flows", revision=revision)
        flow_ids = {*self._entries, *self._reactive, *self._limited}
        after = ""
        while flows := await self._registry.list_flows(after_id=after, limit=self._page):
            flow_ids.update(flow.id for flow in flows)
            after = flows[-1].id
        for flow_id in sorted(flow_ids):
            with suppress(InternalError):
                await self._read(flow_id)
        self._applied = revision

    def _on_change(self, revision: int) -> None:
        self._notified = revision
        self._changed.set()

    async def _read(self, flow_id: str) -> FlowEntry | None:
        """Read a flow and apply its limits; None when it is deleted. Calls must be serialized."""
        flow = await self._registry.get_flow(flow_id)
        if flow is None:
            self._entries.pop(flow_id, None)
            self._policies.retire(flow_id)
            self._limited.discard(flow_id)
            self._reactive.discard(flow_id)
            self._awaited_secrets.pop(flow_id, None)
            self.lacking.discard(flow_id)
            for each in self._reacting:
                each.remove(flow_id)
            return None
        try:
            document = _read_definition(flow)
            reactions = _read_reactions(flow, document.definition)
        except InternalError:
            self._entries.pop(flow_id, None)
            self._set_policy(flow_id, FlowPolicy(paused=flow.paused))
            raise
        entry = self._entries[flow_id] = self._entry(flow, document)
        self._entries.move_to_end(flow_id)
        if len(self._entries) > self._max_flows:
            self._entries.popitem(last=False)
        self._react(flow, reactions)
        paused = await self._lacks_secret(flow_id) or flow.paused
        self._set_policy(flow_id, flow_policy(document.execution, paused=paused))
        return entry

    async def _lacks_secret(self, flow_id: str) -> bool:
        """Whether events start a flow, and a secret that its tasks name is not set: its executions wait until it is.

        Nobody waits for them, and nobody would notice that they fault: a flow that reports the faults of others would
        do so for each fault. A flow that a request starts faults, so that its author sees why.
        """
        names = self._awaited_secrets.get(flow_id)
        lacks = names is not None and len(await self._registry.get_secrets(names)) < len(names)
        (self.lacking.add if lacks else self.lacking.discard)(flow_id)
        return lacks

    def _set_policy(self, flow_id: str, policy: FlowPolicy) -> None:
        (self._limited.discard if policy == DEFAULT_POLICY else self._limited.add)(flow_id)
        self._policies.set_policy(flow_id, policy)

    def _react(self, flow: Flow, triggers: FlowTriggers) -> None:
        (self._reactive.add if triggers else self._reactive.discard)(flow.id)
        self._awaited_secrets.pop(flow.id, None)
        if triggers.trigger is not None:
            with _reading(flow):
                names = parse_names(flow.definition)
            if in_tasks := names.expressions | names.calls:
                self._awaited_secrets[flow.id] = in_tasks
        for each in self._reacting:
            each.react(flow, triggers)

    def _entry(self, flow: Flow, document: FlowDocument) -> FlowEntry:
        webhook = document.webhook
        dedupe = None if webhook is None else webhook.dedupe
        policy = document.execution
        earlier = self._entries.get(flow.id)
        if earlier is not None and earlier.revision == flow.revision:
            bucket, callbacks = earlier.bucket, earlier.callbacks
        else:
            bucket = None if webhook is None else self._bucket(webhook.rate_limit)
            callbacks = {} if webhook is None else self._callbacks(webhook.callbacks)
        raw = webhook is not None and webhook.parse == "raw"
        return FlowEntry(
            id=flow.id,
            slot=ids.slot_of(flow.id),
            revision=flow.revision,
            max_backlog=min(policy.max_backlog, limits.DEFAULT_TOTAL_BACKLOG),
            dedupe_seconds=DEFAULT_DEDUPE_SECONDS if dedupe is None else dedupe.window,
            bucket=bucket,
            keys=KeyExpressions(
                order_expression(document.definition.get("execution") or {}),
                policy.search,
                shaping=shaping_expressions(document.definition.get("execution") or {}),
                webhook=webhook is not None,
                raw=raw,
                fields={} if webhook is None else webhook.fields,
            ),
            raw=raw,
            batches=policy.batch is not None,
            callbacks=callbacks,
            versions={document.workflow.document.version: flow.revision},
        )

    def _bucket(self, rate: RateLimit | None) -> TokenBucket | None:
        if rate is None:
            return None
        return TokenBucket(per_second=rate.per_second, burst=rate.burst, now=self._clock())

    def _callbacks(self, callbacks: Mapping[str, Callback]) -> Mapping[str, CallbackEntry]:
        return {
            name: CallbackEntry(
                bucket=self._bucket(callback.rate_limit),
                dedupe_seconds=callback.dedupe.window,
                raw=callback.parse == "raw",
                to_all=callback.deliver == "all",
                only_one_time=callback.only_one_time,
            )
            for name, callback in callbacks.items()
        }


def flow_policy(execution: ExecutionPolicy, *, paused: bool) -> FlowPolicy:
    """Return what the scheduling core has to know of the `execution` of a flow."""
    rate, concurrency, priority = execution.rate, execution.concurrency, execution.priority
    outage = None
    if execution.outage != "none":
        given = execution.outage
        outage = BreakerPolicy(given.failures, round(given.probe * 1000), given.ratio)
    return FlowPolicy(
        concurrency=concurrency if isinstance(concurrency, int) else None,
        paused=paused,
        keeps_turns=isinstance(execution.order_by, Order) and execution.order_by.on_fault == "hold",
        rate=None if rate is None else RatePolicy(rate.limit, rate.per, rate.burst, keyed=rate.key is not None),
        key_concurrency=concurrency.limit if isinstance(concurrency, KeyedConcurrency) else None,
        by_priority=isinstance(priority, str),
        group=_group(execution),
        weight=1 + priority if isinstance(priority, int) else 1,
        outage=outage,
    )


def _group(execution: ExecutionPolicy) -> GroupPolicy | None:
    debounce, batch = execution.debounce, execution.batch
    if batch is not None:
        return GroupPolicy(max(int(batch.period * 1000), 1), first=True, size=batch.size)
    if debounce is not None:
        return GroupPolicy(max(int(debounce.period * 1000), 1), first=debounce.take == "first")
    return None


@contextmanager
def _reading(flow: Flow) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, InvalidError):
        # stored by an incompatible version: an error of one flow must not stop the router
        log.error("stored flow is invalid", flow=flow.id, revision=flow.revision)  # noqa: TRY400 - no traceback: it shows the flow
        raise InternalError(
            "this version of Flowhook can't read the flow: apply it again", reason="FLOW_UNREADABLE"
        ) from None


def _read_definition(flow: Flow) -> FlowDocument:
    with _reading(flow):
        return load_definition(flow.definition)


def _read_reactions(flow: Flow, definition: Mapping[str, Any]) -> FlowTriggers:
    with _reading(flow):
        return parse_triggers(definition)
