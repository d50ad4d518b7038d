"""Puts events together that start an execution only when there is one for each filter (`schedule.on.all`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from router.reactions.definition import Trigger
from router.reactions.matching import passes, value_at

_Key = tuple[bytes, ...]


class Gathering:
    """Events of one flow that wait for others, by number. Of those that fit together the oldest go first.

    An event stands for one filter: of those that it passes for the one that has the fewest.
    """

    def __init__(self, trigger: Trigger) -> None:
        self._trigger = trigger
        self._groups: dict[_Key, tuple[deque[int], ...]] = {}
        self._places: dict[int, tuple[_Key, int]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, number: int, event: Mapping[str, Any]) -> list[int] | None:
        """Take in an event; numbers ascend.

        Returns:
            None; or, when there is one for each filter now, their numbers in the order of the filters. They don't wait
            any more.
        """
        place = self._place(event)
        if place is None:
            return None
        key, index = place
        self._places[number] = place
        group = self._groups.setdefault(key, tuple(deque() for _ in self._trigger.filters))
        group[index].append(number)
        if not all(group):
            return None
        complete = [waiting[0] for waiting in group]
        for each in complete:
            self.remove(each)
        return complete

    def remove(self, number: int) -> None:
        """Have an event wait no more; nothing happens when it does not."""
        place = self._places.pop(number, None)
        if place is not None:
            key, index = place
            group = self._groups[key]
            group[index].remove(number)
            if not any(group):
                del self._groups[key]

    def _place(self, event: Mapping[str, Any]) -> tuple[_Key, int] | None:
        places = [
            (key, index)
            for index, event_filter in enumerate(self._trigger.filters)
            if passes(event_filter, event) and (key := self._key(index, event)) is not None
        ]
        return min(places, key=self._waiting, default=None)

    def _key(self, index: int, event: Mapping[str, Any]) -> _Key | None:
        values = [value_at(path, event) for path in self._trigger.keys[index]]
        return None if None in values else tuple(value for value in values if value is not None)

    def _waiting(self, place: tuple[_Key, int]) -> int:
        key, index = place
        group = self._groups.get(key)
        return 0 if group is None else len(group[index])
