"""Stores incidents as they change, and publishes their lifecycle events to the flows that want them, each once.

What is stored says what was published. After a crash in between, an event is published again under the same ID, and
found to be a duplicate.
"""

from __future__ import annotations

import asyncio
from typing import Final

import attrs

from flowhook.errors import ExhaustedError, FlowhookError
from flowhook.events import ids
from flowhook.events.lifecycle import IncidentEventType, encode_event
from flowhook.events.workflow_input import rfc3339
from flowhook.model.incidents import Incident
from flowhook.process import logs
from router.dispatch.outage_control import OutageControl
from router.storage.incidents import IncidentLog, StoredIncident
from router.triggers.event_publisher import EventPublisher
from router.triggers.idempotent_ids import EffectIds

RETRY_SECONDS: Final = 2.0
log = logs.get_logger(__name__)


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
            event_id = ids.derive(ids.slot_of(incident.destination), incident.open_time_ms, f"{incident.id}:{type_}")
            try:
                await self._publisher.publish_lifecycle_event(
                    _event(incident, type_, event_id), type_, EffectIds(event_id, event_id), emitter=""
                )
            except ExhaustedError:
                log.warning("a flow has no room for the event of an incident", incident=incident.id)
        await self._incidents.announced(incident.id, len(types))


def _event(incident: Incident, type_: str, event_id: str) -> bytes:
    """Return a CloudEvent as JSON."""
    time_ms = incident.open_time_ms
    data = {
        "incident": incident.id,
        "destination": incident.destination,
        "cause": incident.cause,
        "flows": incident.flows,
        "failures": incident.failures,
        "openedAt": rfc3339(incident.open_time_ms),
    }
    if type_ == IncidentEventType.CLOSED and incident.close_time_ms is not None:
        time_ms = incident.close_time_ms
        data["closedAt"] = rfc3339(time_ms)
    return encode_event(type_, data, event_id=event_id, source="/incidents", subject=incident.id, time_ms=time_ms)
