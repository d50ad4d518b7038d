"""Replaces what a cluster provides, for a flow that runs without one: clock, events, callback URLs, components."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import orjson
from pydantic import StrictStr

from flowhook.events import cloud_events
from flowhook.model import Event, EventFilter, JournalEntry, Subscription
from runner.components.base import Context, component
from runner.interpreter.effects import EMIT, RUN_WORKFLOW, DeliveredEvent
from runner.interpreter.errors import Kind, fault
from runner.interpreter.execution_context import OneTimeUrls
from runner.ipc import ProvidedEvent
from runner.worker import event_sink


@attrs.define(eq=False, repr=False, kw_only=True)
class LocalClock:
    """Real time plus the time that was skipped."""

    skips: bool = False  # whether `sleep_until` takes no time
    _skipped_ms: int = attrs.field(init=False, default=0)

    def now_ms(self) -> int:
        """Return Unix milliseconds."""
        return time.time_ns() // 1_000_000 + self._skipped_ms

    def seconds_until(self, moment_ms: int) -> float:
        """Return the seconds until a moment, 0 if it has passed."""
        return max(0.0, (moment_ms - self.now_ms()) / 1000)

    async def sleep_until(self, moment_ms: int) -> None:
        """Wait until a moment, or skip the time."""
        if self.skips:
            self._skipped_ms += max(0, moment_ms - self.now_ms())
        await asyncio.sleep(self.seconds_until(moment_ms))


class LocalEvents:
    """Events in the order given; each is delivered once, to the first subscription that matches it."""

    def __init__(self, events: Sequence[ProvidedEvent]) -> None:
        self._events = [(event, orjson.loads(event.payload)) for event in events]
        self._number = 0

    def take(self, subscriptions: Sequence[Subscription]) -> DeliveredEvent | None:
        """Remove and return the first event that matches one of `subscriptions`; None if absent."""
        for index, (provided, event) in enumerate(self._events):
            for subscription in subscriptions:
                if any(_matches(each, event, callback=provided.callback) for each in subscription.filters):
                    del self._events[index]
                    self._number += 1
                    return DeliveredEvent(JournalEntry(subscription.key, provided.payload), self._number)
        return None


def _matches(event_filter: EventFilter, event: Mapping[str, Any], *, callback: bool) -> bool:
    """Whether a filter matches an event, without correlations: the task itself checks the event's data."""
    if event_filter.callback is not callback or event_filter.type not in ("", event.get("type")):
        return False
    return all(cloud_events.attribute(event, name) == value for name, value in event_filter.attributes)


def placeholder_urls(event: Event, definition: Mapping[str, Any]) -> OneTimeUrls | None:
    """Return placeholders for a flow's callback URLs, which nothing serves; None for a flow without callbacks."""
    names = tuple((definition.get("webhook") or {}).get("callbacks") or ())
    return OneTimeUrls(names, lambda name, number: f"/hook/{event.flow_id}/{name}/exec-{number + 1}") if names else None


@component(EMIT)
async def _emit(event: dict[str, Any], execution: str, depth: int, sink: StrictStr | None, *, context: Context) -> Any:  # noqa: ARG001
    """Send an event to its sink; there is nobody else."""
    await event_sink.send(event, sink, context)
    return {"receivers": 0}


@component(RUN_WORKFLOW)
async def _run(flow: str, version: str, input: Any, parent: str, depth: int, key: str, *, context: Context) -> None:  # noqa: A002, ARG001, PLR0917
    """Refuse: there is no other flow."""
    raise fault(Kind.CONFIGURATION, f"{flow} can't be run without a cluster; start one by flowhook up")


# local replacements for `cluster_components.cluster_components`
LOCAL_COMPONENTS: Final = {each.name: each for each in (_emit, _run)}
