"""Events that are there for a flow that runs without a cluster: what `flowhook exec` was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from flowhook import cloud_events
from flowhook.model import EventFilter, JournalEntry, Subscription
from runner.control import GivenEvent
from runner.interpreter.effects import Came


class LocalEvents:
    """Events in the order they were given; each comes once, to the first that waits for its type."""

    def __init__(self, events: Sequence[GivenEvent]) -> None:
        """Keep events, whose payloads are CloudEvents in JSON."""
        self._events = [(event, orjson.loads(event.payload)) for event in events]
        self._number = 0

    def take(self, subscriptions: Sequence[Subscription]) -> Came | None:
        """Return the first event that one of `subscriptions` waits for, and keep it no more; None: there is none."""
        for index, (given, content) in enumerate(self._events):
            for subscription in subscriptions:
                if any(_fits(each, content, callback=given.callback) for each in subscription.filters):
                    del self._events[index]
                    self._number += 1
                    return Came(JournalEntry(subscription.key, given.payload), self._number)
        return None


def _fits(wanted: EventFilter, event: Mapping[str, Any], *, callback: bool) -> bool:
    """Whether a filter takes an event, correlations left aside: what is in its data is for the task to judge."""
    if wanted.callback is not callback or wanted.type not in ("", event.get("type")):
        return False
    return all(cloud_events.attribute(event, name) == value for name, value in wanted.attributes)
