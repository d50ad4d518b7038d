"""Admission control: decides whether an event may be stored, by flow, backlog and rate limit."""

from __future__ import annotations

import math
from typing import Final

import attrs

from flowhook import limits
from flowhook.errors import ExhaustedError, InvalidError, NotFoundError, UnavailableError
from flowhook.events.keys import EventKeys, KeyExpressions
from flowhook.model import Event, Origin
from flowhook.sharing.token_bucket import TokenBucket
from router.dispatch.shard_runtime import ShardRuntime
from router.flows.flow_table import FlowEntry, FlowTable
from router.flows.parsing import InputParser

NO_KEYS: Final = KeyExpressions()  # for flows that neither order events nor declare search attributes


@attrs.define(eq=False, repr=False, kw_only=True)
class AdmissionControl:
    """Admission checks for events, shared by all components that start executions."""

    _runtime: ShardRuntime
    _flows: FlowTable
    _parser: InputParser
    _total_backlog: int

    def latest_revision(self, flow_id: str) -> int:
        entry = self._flows.known(flow_id)
        return 0 if entry is None else entry.revision

    def known(self, flow_id: str) -> FlowEntry | None:
        return self._flows.known(flow_id)

    async def flow(self, flow_id: str) -> FlowEntry:
        entry = await self._flows.load(flow_id)
        if entry is None:
            raise no_flow(flow_id)
        return entry

    async def revision(self, entry: FlowEntry, version: str) -> int:
        """Return the latest revision of a flow whose document has a certain version."""
        revision = await self._flows.revision_of(entry, version)
        if revision is None:
            raise NotFoundError(
                f"{entry.id} has no version {version[:40]} among its last {limits.KEPT_REVISIONS} revisions",
                reason="FLOW_VERSION_NOT_FOUND",
            )
        return revision

    def admit(self, entry: FlowEntry, more: int, more_of_flow: int) -> None:
        """Check the backlog and the rate for an event, on top of `more` (`more_of_flow` of its flow) being stored."""
        self.check_backlog(entry.id, entry.max_backlog, more, more_of_flow)
        self.check_rate(entry.bucket)

    def check_rate(self, bucket: TokenBucket | None) -> None:
        wait = 0.0 if bucket is None else bucket.take(self._runtime.parts.clock())
        if wait:
            raise ExhaustedError("the flow's rate limit is reached", reason="RATE_LIMITED", retry_after=math.ceil(wait))

    async def keys_of(self, entry: FlowEntry, event: Event) -> EventKeys:
        """Evaluate a flow's `order_by` and `search` for an event; for errors see `InputParser.keys`."""
        return await self._parser.keys(entry.keys, event) if entry.keys else EventKeys()

    async def keys_of_edited(self, entry: FlowEntry | None, event: Event, *, raw: bool) -> EventKeys:
        """Check an event whose body an operator wrote, as if a sender had sent it, and return its keys.

        `entry` is None of a deleted flow: there are no keys. `raw`: the revision that will run takes bodies unparsed.

        Raises:
            InvalidError: the body does not match its Content-Type, or, of an event that no request made, is not JSON
                (`BODY_INVALID`).
            ExhaustedError: too many bodies of the flow wait to be parsed (`OVERLOADED`).
        """
        if event.origin is not Origin.REQUEST:
            await self._parser.check_json(event.flow_id, event.body, "the input")
        elif not raw:
            await self._parser.check(event, NO_KEYS)
        return EventKeys() if entry is None else await self.keys_of(entry, event)

    async def check_output(self, flow_id: str, output: bytes) -> None:
        """Check that the output that an operator gives to a task is JSON; for errors see `InputParser.check_json`."""
        await self._parser.check_json(flow_id, output, "the output")

    def check_rate_key(self, flow_id: str, key: str) -> None:
        """Check that one more key of a flow's rate can be remembered (`RATE_KEYS_FULL`)."""
        if not self._runtime.shard.queues.rates.has_room(flow_id, key):
            raise ExhaustedError("too many keys of the flow's rate are in use", reason="RATE_KEYS_FULL", retry_after=60)

    def check_backlog(self, flow_id: str, max_backlog: int, more: int = 0, more_of_flow: int = 0) -> None:
        """Check the backlog limits, without the rate limit, which applies to senders but not to operators who replay.

        Raises:
            ExhaustedError: the flow's backlog is full (`BACKLOG_FULL`).
            UnavailableError: the backlog of all flows together is full (`TOTAL_BACKLOG_FULL`).
        """
        core = self._runtime.shard
        if core.unfinished + more >= self._total_backlog:
            raise UnavailableError(
                "the backlog of all flows together is full", reason="TOTAL_BACKLOG_FULL", retry_after=5
            )
        if core.queues.unfinished(flow_id) + more_of_flow >= max_backlog:
            raise ExhaustedError("the flow's backlog is full", reason="BACKLOG_FULL", retry_after=5)


def no_flow(flow_id: str) -> NotFoundError:
    return NotFoundError(f"there is no flow {flow_id[: limits.MAX_FLOW_ID_LENGTH]}", reason="FLOW_NOT_FOUND")


def event_id_taken() -> InvalidError:
    """Return the error for an event whose ID is that of another flow's event: as its duplicate it would be lost."""
    return InvalidError("the event's ID belongs to an event of another flow", reason="EVENT_ID_TAKEN")
