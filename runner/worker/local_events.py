"""The events given to `flowhook exec`, for a flow that runs without a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from flowhook import cloud_events
from flowhook.model import EventFilter, JournalEntry, Subscription
from runner.interpreter.effects import ExternalEvent
from runner.ipc import ProvidedEvent


class LocalEvents:
    """Events in the order given; each is delivered once, to the first subscription that matches it."""

    def __init__(self, events: Sequence[ProvidedEvent]) -> None:
        """Store the events, whose payloads are CloudEvents in JSON."""
        self._events = [(event, orjson.loads(event.payload)) for event in events]
        self._number = 0

    def take(self, subscriptions: Sequence[Subscription]) -> ExternalEvent | None:
        """Remove and return the first event that matches one of `subscriptions`; None: there is none."""
        for index, (given, content) in enumerate(self._events):
            for subscription in subscriptions:
                if any(_fits(each, content, callback=given.callback) for each in subscription.filters):
                    del self._events[index]
                    self._number += 1
                    return ExternalEvent(JournalEntry(subscription.key, given.payload), self._number)
        return None


def _fits(wanted: EventFilter, event: Mapping[str, Any], *, callback: bool) -> bool:
    """Whether a filter matches an event, without correlations: the task itself checks the event's data."""
    if wanted.callback is not callback or wanted.type not in ("", event.get("type")):
        return False
    return all(cloud_events.attribute(event, name) == value for name, value in wanted.attributes)
