"""What accepting an event needs to know of its flow: revision and limits. Loaded when first asked for, then kept.

The table is bounded; a flow that is forgotten loses nothing but the fill of its rate limit. It follows the registry by
itself, so that a change is put in force whoever made it and whatever became of its caller. Reads are one at a time, so
that what an earlier one found never replaces what a later one did. What flows react to beside requests is told to those
who see to it, of all flows from the start on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from flowhook import limits, logs
from flowhook.document import FlowDocument, load_definition
from flowhook.document.webhook import Callback, RateLimit
from flowhook.errors import InternalError, InvalidError, OutOfRangeError, UnavailableError
from flowhook.model import Flow
from flowhook.order_key import OrderKey
from flowhook.token_bucket import TokenBucket
from router.reactions.definition import Reactions, reactions_of
from router.scheduling.queues import DEFAULT_POLICY, FlowPolicy
from router.storage.interface import Registry

MAX_FLOWS: Final = 20_000
"""Flows that the table remembers."""

PAGE: Final = 100
"""Definitions that are read at a time, of 256 KiB at the most."""

RETRY_SECONDS: Final = 0.5
"""Between tries to read what changed, while storage is away."""

DEFAULT_DEDUPE_SECONDS: Final = 24 * 3600.0
"""Window of dedupe keys that come for a flow which says nothing of them."""


log = logs.get_logger(__name__)


@dataclass(slots=True)
class CallbackEntry:
    """One callback of a flow, as accepting sees it.

    Attributes:
        bucket: its rate limit, if it has one.
        dedupe_seconds: how long keys are remembered.
        raw: whether bodies are left as they are.
        to_all: whether an event goes to all executions that wait for it, rather than to one.
        only_one_time: whether only one-time URLs lead to it.
    """

    bucket: TokenBucket | None
    dedupe_seconds: float
    raw: bool
    to_all: bool
    only_one_time: bool


@dataclass(slots=True)
class FlowEntry:
    """One flow, as accepting sees it. `bucket` is None where no rate limit is set, `order_key` where no order is.

    `raw`: bodies are left as they are.

    `callbacks` are those of its latest revision, by name; `versions` are what documents said of themselves, with the
    latest revision of each, as far as somebody asked for it.
    """

    id: str
    revision: int
    max_backlog: int
    dedupe_seconds: float
    bucket: TokenBucket | None
    order_key: OrderKey | None
    raw: bool
    callbacks: Mapping[str, CallbackEntry]
    versions: dict[str, int]


class Policies(Protocol):
    """Where the limits of flows are put in force."""

    def set_policy(self, flow_id: str, policy: FlowPolicy) -> None:
        """Replace what limits a flow."""
        ...

    def retire(self, flow_id: str) -> None:
        """Let what a deleted flow left behind end under the limits it had."""
        ...


class Reacting(Protocol):
    """Who sees to it that flows are started by what they react to. Calls are repeated, also without a change."""

    def react(self, flow: Flow, reactions: Reactions) -> None:
        """Have a flow react to these, and to nothing else; maybe to nothing at all."""
        ...

    def remove(self, flow_id: str) -> None:
        """Have a flow that was deleted react to nothing."""
        ...


class FlowTable:
    """Flows by ID. Call `start`, then let `follow` run beside the server."""

    def __init__(
        self,
        registry: Registry,
        *,
        policies: Policies,
        clock: Callable[[], float],
        max_flows: int = MAX_FLOWS,
    ) -> None:
        self._registry = registry
        self._policies = policies
        self._reacting: Sequence[Reacting] = ()
        self._clock = clock
        self._max_flows = max_flows
        self._entries: OrderedDict[str, FlowEntry] = OrderedDict()
        self._reactive: set[str] = set()
        self._limited: set[str] = set()
        """Flows with limits in force, those that were forgotten or can't be read too: a pause ends with its flow."""
        self._reading = asyncio.Lock()
        self._changed = asyncio.Event()
        self._told = 0
        self._seen = 0
        registry.follow(self._on_change)

    def known(self, flow_id: str) -> FlowEntry | None:
        """Return a flow that is in memory, else None."""
        return self._entries.get(flow_id)

    async def load(self, flow_id: str) -> FlowEntry | None:
        """Return a flow, read from the registry unless it is in memory; None when there is none.

        Raises:
            InternalError: this version can't read its definition (`FLOW_UNREADABLE`).
            UnavailableError: storage can't serve.
        """
        async with self._reading:
            return self._entries.get(flow_id) or await self._read(flow_id)

    async def revision_of(self, entry: FlowEntry, version: str) -> int | None:
        """Return the latest revision of a flow whose document is of a version; None when there is none.

        Raises:
            UnavailableError: storage can't serve.
        """
        known = entry.versions.get(version)
        if known is None:
            known = await self._registry.find_revision(entry.id, version=version)
            if known is not None:
                entry.versions[version] = known
        return known

    async def start(self, unfinished: Mapping[str, int], reacting: Sequence[Reacting] = ()) -> None:
        """Put in force the limits of flows that have something unfinished, and what flows react to. Call it once.

        Args:
            unfinished: those flows, each with a revision that is kept, for those that were deleted.
            reacting: who is told what flows react to, now and whenever one changes.

        Raises:
            UnavailableError: storage can't serve.
        """
        self._reacting = reacting
        self._told = self._seen = await self._registry.revision()
        for flow_id, revision in unfinished.items():
            with suppress(InternalError):
                if await self._read(flow_id) is None:
                    flow = await self._registry.get_flow(flow_id, revision=revision)
                    if flow is not None:
                        self._policies.set_policy(flow_id, _policy(flow, _read_definition(flow)))
                        self._policies.retire(flow_id)
        after = ""
        while flows := await self._registry.list_flows(after_id=after, limit=PAGE, reacting=True):
            for flow in flows:
                with suppress(InternalError):  # without building all models: there may be many
                    self._react(flow, _read_reactions(flow, orjson.loads(flow.definition)))
            after = flows[-1].id

    async def follow(self) -> None:
        """Put changes in force until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.catch_up()
            except UnavailableError as error:
                log.warning("changes of flows can't be read; trying again", reason=error.reason)
                await asyncio.sleep(RETRY_SECONDS)
                self._changed.set()

    async def catch_up(self) -> None:
        """Put every change in force that was committed before the call.

        Raises:
            UnavailableError: storage can't serve; `follow` tries again.
        """
        async with self._reading:
            while self._seen < self._told:
                try:
                    changes = await self._registry.changes(after_revision=self._seen)
                except OutOfRangeError:
                    await self._read_all()
                    continue
                for flow_id in {change.flow_id for change in changes if change.flow_id}:
                    with suppress(InternalError):
                        await self._read(flow_id)
                self._seen = changes[-1].revision

    async def _read_all(self) -> None:
        """Put all flows in force, because more changed than is known one by one."""
        revision = await self._registry.revision()
        log.warning("too much changed at a time; reading all flows", revision=revision)
        flow_ids = {*self._entries, *self._reactive, *self._limited}
        after = ""
        while flows := await self._registry.list_flows(after_id=after, limit=PAGE):
            flow_ids.update(flow.id for flow in flows)
            after = flows[-1].id
        for flow_id in sorted(flow_ids):
            with suppress(InternalError):
                await self._read(flow_id)
        self._seen = revision

    def _on_change(self, revision: int) -> None:
        self._told = revision
        self._changed.set()

    async def _read(self, flow_id: str) -> FlowEntry | None:
        """Read a flow and put its limits in force; None when it is gone. One call at a time."""
        flow = await self._registry.get_flow(flow_id)
        if flow is None:
            self._entries.pop(flow_id, None)
            self._policies.retire(flow_id)
            self._limited.discard(flow_id)
            self._reactive.discard(flow_id)
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
        entry = self._entry(flow, document)
        self._entries[flow_id] = entry
        self._entries.move_to_end(flow_id)
        if len(self._entries) > self._max_flows:
            self._entries.popitem(last=False)
        self._set_policy(flow_id, _policy(flow, document))
        self._react(flow, reactions)
        return entry

    def _set_policy(self, flow_id: str, policy: FlowPolicy) -> None:
        (self._limited.discard if policy == DEFAULT_POLICY else self._limited.add)(flow_id)
        self._policies.set_policy(flow_id, policy)

    def _react(self, flow: Flow, reactions: Reactions) -> None:
        (self._reactive.add if reactions else self._reactive.discard)(flow.id)
        for each in self._reacting:
            each.react(flow, reactions)

    def _entry(self, flow: Flow, document: FlowDocument) -> FlowEntry:
        webhook = document.webhook
        dedupe = None if webhook is None else webhook.dedupe
        order_by = document.execution.order_by
        earlier = self._entries.get(flow.id)
        if earlier is not None and earlier.revision == flow.revision:
            bucket, callbacks = earlier.bucket, earlier.callbacks
        else:
            bucket = None if webhook is None else self._bucket(webhook.rate_limit)
            callbacks = {} if webhook is None else self._callbacks(webhook.callbacks)
        raw = webhook is not None and webhook.parse == "raw"
        return FlowEntry(
            id=flow.id,
            revision=flow.revision,
            max_backlog=min(document.execution.max_backlog, limits.DEFAULT_TOTAL_BACKLOG),
            dedupe_seconds=DEFAULT_DEDUPE_SECONDS if dedupe is None else dedupe.window,
            bucket=bucket,
            order_key=None if order_by is None else OrderKey(order_by, webhook=webhook is not None, raw=raw),
            raw=raw,
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


@contextmanager
def _reading(flow: Flow) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, InvalidError):
        # of a version that is not compatible: one flow's trouble, which must not become the router's
        log.error("a stored flow can't be read", flow=flow.id, revision=flow.revision)  # noqa: TRY400 - the rest is its author's
        raise InternalError("this version can't read the flow", reason="FLOW_UNREADABLE") from None


def _read_definition(flow: Flow) -> FlowDocument:
    with _reading(flow):
        return load_definition(flow.definition)


def _read_reactions(flow: Flow, definition: Mapping[str, Any]) -> Reactions:
    with _reading(flow):
        return reactions_of(definition)


def _policy(flow: Flow, document: FlowDocument) -> FlowPolicy:
    return FlowPolicy(concurrency=document.execution.concurrency, paused=flow.paused)
