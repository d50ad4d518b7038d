"""Publishes lifecycle events of executions and of incidents to the flows that want them, each once.

What is stored says what was published: after a crash in between, an event is delivered again under the same ID, and
found to be a duplicate. Each record of the outbox (see `LifecycleOutbox`) becomes an event with an ID derived from it,
is delivered to all flows that want it by then, and is removed after that. A flow that has no room for the event of an
execution is retried for up to `KEEP_MS`, without delaying others.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import orjson

from flowhook.asyncio_tasks import wait_at_most
from flowhook.document.definition import error_types
from flowhook.errors import ExhaustedError, FlowhookError, InvalidError
from flowhook.events import ids
from flowhook.events.lifecycle import IncidentEventType, WorkflowEventType, WorkflowIdentity, encode_lifecycle_event
from flowhook.events.workflow_input import rfc3339
from flowhook.model.error_types import Spelling
from flowhook.model.incidents import Incident
from flowhook.process import logs
from router.dispatch.outage_control import OutageControl
from router.dispatch.parts import ShardParts
from router.storage.incidents import IncidentLog, StoredIncident
from router.storage.model import ExecutionRecord, LifecyclePublished, UnpublishedEvent
from router.storage.registry import Registry
from router.triggers.event_publisher import EventPublisher
from router.triggers.execution_starter import EffectIds

CHUNK: Final = 64  # lifecycle events published in one batch
RETRY_SECONDS: Final = 2.0  # seconds between retries for flows that have no room, and while storage is unavailable
KEEP_MS: Final = 3600 * 1000  # milliseconds for which delivery to a flow that has no room is retried
MAX_DEFINITIONS: Final = 1000  # revisions of flows whose names are cached
log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class LifecyclePublisher:
    """Publishes lifecycle events from the outbox. Let `run` run beside the server."""

    _parts: ShardParts
    _registry: Registry
    _publisher: EventPublisher
    _seen: int = attrs.field(init=False, default=0)
    # lifecycle events to publish again, because a flow had no room
    _late: deque[UnpublishedEvent] = attrs.field(init=False, factory=deque)
    _definitions: OrderedDict[tuple[str, int], tuple[WorkflowIdentity, Spelling] | None] = attrs.field(
        init=False, factory=OrderedDict
    )

    async def run(self) -> None:
        while True:
            self._parts.outbox.has_pending.clear()
            again: float | None = None
            try:
                await self.turn()
            except FlowhookError as error:
                log.warning("publishing lifecycle events failed; trying again", reason=error.reason)
                again = RETRY_SECONDS
            await wait_at_most(again or (RETRY_SECONDS if self._late else None), self._parts.outbox.has_pending.wait())

    async def turn(self) -> None:
        """Publish all pending lifecycle events; FlowhookError: storage can't serve, and the rest is still pending."""
        late = [self._late.popleft() for _ in range(min(CHUNK, len(self._late)))]
        try:
            await self._publish_chunk(late)
        except FlowhookError:
            self._late.extendleft(reversed(late))
            raise
        while chunk := await self._parts.state.occurrences(after_number=self._seen, limit=CHUNK):
            await self._publish_chunk(chunk)
            self._seen = chunk[-1].number
        self._parts.outbox.pending = len(self._late)

    async def _publish_chunk(self, chunk: Sequence[UnpublishedEvent]) -> None:
        if not chunk:
            return
        by_seq = await self._parts.state.records({each.seq for each in chunk})
        records = [by_seq.get(each.seq) for each in chunk]
        # build all events before delivering the first, so that none overtakes another
        payloads = await asyncio.gather(*map(self._payload, chunk, records))
        results = await asyncio.gather(*map(self._publish, chunk, records, payloads), return_exceptions=True)
        done: list[UnpublishedEvent] = []
        failures: list[BaseException] = []
        full: list[UnpublishedEvent] = []
        for each, result in zip(chunk, results, strict=True):
            if isinstance(result, ExhaustedError) and self._parts.now_ms() - each.time_ms < KEEP_MS:
                full.append(each)
            elif isinstance(result, BaseException) and not isinstance(result, ExhaustedError | InvalidError):
                failures.append(result)
            else:
                done.append(each)
                became = "dropped" if isinstance(result, BaseException) else "heard" if result else "unheard"
                self._parts.metrics.by_label["flowhook_router_lifecycle_total"][became] += 1
        if failures:
            raise failures[0]
        await self._parts.state.write([LifecyclePublished(each.number) for each in done])
        self._late += full

    async def _publish(self, each: UnpublishedEvent, record: ExecutionRecord | None, payload: bytes | None) -> int:
        if record is None or payload is None:
            return 0
        # the key begins with the execution's ID, whose time goes into all derived IDs
        effect = EffectIds(f"{record.id}:{each.type}#{each.key or each.number}", record.id)
        return await self._publisher.publish_lifecycle_event(payload, each.type, effect, emitter=record.id)

    async def _payload(self, each: UnpublishedEvent, record: ExecutionRecord | None) -> bytes | None:
        """Return the lifecycle event of an outbox record as JSON; None when the execution is past retention."""
        definition = None if record is None else await self._definition(record.flow_id, record.flow_revision)
        if record is None or definition is None:
            return None
        output = None
        if each.type == WorkflowEventType.COMPLETED:
            output, _ = await self._parts.state.answer(record.seq)
        time_ms, what = each.time_ms, f"lifecycle {each.number}"
        if each.key:  # reported by a runner, which may report it again
            time_ms, what = ids.time_ms_of(record.id), f"lifecycle {record.id}:{each.type}#{each.key}"
        return encode_lifecycle_event(
            each.type,
            event_id=ids.derive(ids.slot_of(record.flow_id), time_ms, what),
            flow_id=record.flow_id,
            execution_id=record.id,
            definition=definition[0],
            time_ms=each.time_ms,
            error=record.error if each.type == WorkflowEventType.FAULTED else None,
            error_types=definition[1],
            output=output,
            within=each.data,
        )

    async def _definition(self, flow_id: str, revision: int) -> tuple[WorkflowIdentity, Spelling] | None:
        """Return the identity of a flow, and how it spells the types of errors."""
        key = flow_id, revision
        if key not in self._definitions:
            flow = await self._registry.get_flow(flow_id, revision=revision)
            self._definitions[key] = None if flow is None else _described(orjson.loads(flow.definition))
            if len(self._definitions) > MAX_DEFINITIONS:
                self._definitions.popitem(last=False)
        return self._definitions[key]


def _described(definition: Mapping[str, Any]) -> tuple[WorkflowIdentity, Spelling]:
    document = definition["document"]
    identity = WorkflowIdentity(document["namespace"], document["name"], str(document["version"]))
    return identity, error_types(definition)


@attrs.define(eq=False, repr=False, kw_only=True)
class IncidentPublisher:
    """Stores and publishes incidents. Let `run` run beside the server."""

    _outages: OutageControl
    _incidents: IncidentLog
    _publisher: EventPublisher

    async def run(self) -> None:
        while True:
            changed: list[Incident] = []
            try:
                # what was not published before a restart, at first
                for each in await self._incidents.unannounced():
                    await self._publish(each)
                changed = await self._outages.changed()
                await self._incidents.save(changed)
            except FlowhookError as error:
                log.warning("storing or publishing incidents failed; trying again", reason=error.reason)
                self._outages.put_back(changed)
                await asyncio.sleep(RETRY_SECONDS)

    async def _publish(self, stored: StoredIncident) -> None:
        incident = stored.incident
        types = [IncidentEventType.OPENED, IncidentEventType.CLOSED][: 1 if incident.close_time_ms is None else 2]
        for type_ in types[stored.announced :]:
            time_ms = incident.open_time_ms
            event_id = ids.derive(ids.slot_of(incident.destination), time_ms, f"{incident.id}:{type_}")
            data = {
                "incident": incident.id,
                "destination": incident.destination,
                "cause": incident.cause,
                "flows": incident.flows,
                "failures": incident.failures,
                "openedAt": rfc3339(time_ms),
            }
            if type_ is IncidentEventType.CLOSED and incident.close_time_ms is not None:
                data["closedAt"] = rfc3339(time_ms := incident.close_time_ms)
            await self._publisher.announce(
                type_, data, event_id=event_id, source="/incidents", subject=incident.id, time_ms=time_ms
            )
        await self._incidents.announced(incident.id, len(types))
