"""Correlates events that start an execution only together, one for each filter (`schedule.on.all`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from router.scheduling.matching import IncomingEvent
from router.triggers.event_triggers.definition import EventTrigger
from router.triggers.event_triggers.filters import NOTHING

_Key = tuple[bytes, ...]
"""Correlation key: the values that are equal in all events of one execution."""


class EventJoin:
    """Events of one flow that wait for correlated ones, by number. Of those with equal keys, the oldest are used first.

    An event counts for one filter: of those that match it, the one with the fewest waiting events.
    """

    def __init__(self, trigger: EventTrigger) -> None:
        self._filters = trigger.filters
        self._keys = trigger.keys
        self._groups: dict[_Key, tuple[deque[int], ...]] = {}
        self._places: dict[int, tuple[_Key, int]] = {}

    def __len__(self) -> int:
        return len(self._places)

    @property
    def oldest(self) -> int | None:
        """Number of the first waiting event, if there is any."""
        return next(iter(self._places), None)

    @property
    def waiting(self) -> Mapping[_Key, Sequence[Sequence[int]]]:
        """Numbers of the waiting events: by correlation key, for each filter."""
        return self._groups

    def accepts(self, event: IncomingEvent) -> bool:
        """Whether a filter matches an event, and the event has all correlation values."""
        return self._place(event) is not None

    def add(self, number: int, event: IncomingEvent) -> list[int] | None:
        """Add an event; numbers ascend.

        Returns:
            The numbers of a complete set of events, in the order of the filters, which are removed; None: there is not
            an event for each filter yet.
        """
        place = self._place(event)
        if place is None:
            return None
        key, index = place
        self._places[number] = place
        group = self._groups.setdefault(key, tuple(deque() for _ in self._filters))
        group[index].append(number)
        if not all(group):
            return None
        complete = [waiting[0] for waiting in group]
        for each in complete:
            self.remove(each)
        return complete

    def remove(self, number: int) -> None:
        """Remove an event; no-op when it is not here."""
        place = self._places.pop(number, None)
        if place is not None:
            key, index = place
            group = self._groups[key]
            group[index].remove(number)
            if not any(group):
                del self._groups[key]

    def _place(self, event: IncomingEvent) -> tuple[_Key, int] | None:
        places = [
            (key, index)
            for index, event_filter in enumerate(self._filters)
            if event_filter.matches(event) and (key := self._key(index, event)) is not None
        ]
        return min(places, key=self._waiting, default=None)

    def _key(self, index: int, event: IncomingEvent) -> _Key | None:
        """Return the correlation key of an event for a filter; None when it lacks a value."""
        key: list[bytes] = []
        for shape in self._keys[index]:
            value = event.values(shape)
            if value is None or value == NOTHING:
                return None
            key.append(value)
        return tuple(key)

    def _waiting(self, place: tuple[_Key, int]) -> int:
        key, index = place
        group = self._groups.get(key)
        return 0 if group is None else len(group[index])
