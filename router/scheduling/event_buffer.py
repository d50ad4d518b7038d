"""Buffers events that have no subscriber yet, until an execution subscribes or they expire.

The mirror of `subscriptions`: an execution that starts to wait finds its event with one lookup for each of its filters.
An arrival's values for a shape are known if its content was in memory when it was added and the shape had been looked
up before; otherwise they are *unknown* until the content is read again and passed to `learn`. This applies only to
shapes that compare values.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Final, NamedTuple

from flowhook.model import Subscription
from router.scheduling.matching import (
    ANY_TYPE,
    ANYTHING,
    FilterShape,
    IncomingEvent,
    filter_fingerprint,
    filter_types_for,
)
from router.scheduling.subscriptions import EventKind

MIN_STALE: Final = 1024
"""Stale entries the heap may hold, besides one for each arrival in the buffer, before it is rebuilt."""


class BufferedEvent(NamedTuple):
    """A buffered arrival.

    Attributes:
        kind: its flow, whether it is a callback, and its type.
        seq: the execution it is addressed to; 0: the first to wait for it.
        expire_at_ms: Unix time until which it is buffered.
        to_all: for an arrival addressed to no execution: whether it goes to all that wait for it, or to one of them.
    """

    kind: EventKind
    seq: int
    expire_at_ms: int
    to_all: bool = True


class ArrivedEvent(NamedTuple):
    """An arrival that is being delivered; `event` is None while its content is not in memory."""

    number: int
    buffered: BufferedEvent
    event: IncomingEvent | None


class BufferedMatch(NamedTuple):
    """An arrival for an execution that starts to wait, and the key of the journal entry that records it."""

    number: int
    key: str


@dataclass(slots=True)
class _ShapeIndex:
    """Arrivals of one kind by their values of one shape, oldest first; `unknown` are newer than all others."""

    unknown: dict[int, None]
    values: dict[int, bytes | None] = field(default_factory=dict)
    numbers: dict[bytes, dict[int, None]] = field(default_factory=dict)

    def learn(self, number: int, values: bytes | None) -> None:
        self.unknown.pop(number, None)
        self.values[number] = values
        if values is not None:
            self.numbers.setdefault(values, {})[number] = None

    def remove(self, number: int) -> None:
        self.unknown.pop(number, None)
        values = self.values.pop(number, None)
        if values is not None:
            numbers = self.numbers[values]
            del numbers[number]
            if not numbers:
                del self.numbers[values]


@dataclass(slots=True)
class _KindIndex:
    """All arrivals of one kind, oldest first, and the shapes looked up while there were any."""

    numbers: dict[int, None] = field(default_factory=dict)
    tables: dict[FilterShape, _ShapeIndex] = field(default_factory=dict)


class EventBuffer:
    """The buffered arrivals of a shard.

    They are added in ascending number, except for a few that come back because no execution could take them.
    """

    def __init__(self) -> None:
        self._arrivals: dict[int, BufferedEvent] = {}
        self._kinds: dict[EventKind, _KindIndex] = {}
        self._addressed: dict[int, dict[int, None]] = {}
        self._of_flow: dict[str, int] = {}
        self._expiry: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """Return the number of buffered arrivals."""
        return len(self._arrivals)

    def __contains__(self, number: int) -> bool:
        return number in self._arrivals

    def of_flow(self, flow_id: str) -> int:
        """Return the number of buffered arrivals of a flow that are addressed to no particular execution."""
        return self._of_flow.get(flow_id, 0)

    def emitted(self, flow_id: str, *, after: int) -> list[tuple[int, str]]:
        """Return number and type of the emitted events buffered for a flow after a given number, oldest first."""
        there = self._kinds.get((flow_id, False, ANY_TYPE))
        newest_first = () if there is None else takewhile(lambda number: number > after, reversed(there.numbers))
        return [(number, self._arrivals[number].kind[2]) for number in newest_first][::-1]

    def shapes(self, kind: EventKind) -> set[FilterShape]:
        """Return the shapes looked up in the buffer for a kind; they also apply to arrivals added later."""
        return {shape for each in _kinds_of(kind) if each in self._kinds for shape in self._kinds[each].tables}

    def concern(self, seq: int, flow_id: str) -> bool:
        """Whether any arrival is buffered that an execution might wait for."""
        return flow_id in self._of_flow or seq in self._addressed

    def add(
        self,
        number: int,
        kind: EventKind,
        expire_at_ms: int,
        *,
        seq: int = 0,
        to_all: bool = True,
        event: IncomingEvent | None = None,
    ) -> None:
        """Buffer an arrival; later arrivals have greater numbers. See `BufferedEvent`.

        `event` is its content, when that is in memory.
        """
        self._arrivals[number] = BufferedEvent(kind, seq, expire_at_ms, to_all)
        heapq.heappush(self._expiry, (expire_at_ms, number))
        if seq:
            self._addressed.setdefault(seq, {})[number] = None
            return
        self._of_flow[kind[0]] = self._of_flow.get(kind[0], 0) + 1
        for each in _kinds_of(kind):
            there = self._kinds.setdefault(each, _KindIndex())
            if there.numbers and number < next(reversed(there.numbers)):
                self._kinds[each] = _KindIndex(dict.fromkeys(sorted([*there.numbers, number])))
                continue
            there.numbers[number] = None
            for shape, table in there.tables.items():
                if event is None or table.unknown:
                    table.unknown[number] = None
                else:
                    table.learn(number, event.values(shape))

    def take(self, number: int) -> BufferedEvent | None:
        """Remove an arrival and return it; None when it is not in the buffer."""
        arrival = self._arrivals.pop(number, None)
        if arrival is not None:
            self._forget(number, arrival)
        return arrival

    def _forget(self, number: int, arrival: BufferedEvent) -> None:
        if len(self._expiry) > MIN_STALE + 2 * len(self._arrivals):
            self._expiry = [(each.expire_at_ms, number_) for number_, each in self._arrivals.items()]
            heapq.heapify(self._expiry)
        if arrival.seq:
            addressed = self._addressed[arrival.seq]
            del addressed[number]
            if not addressed:
                del self._addressed[arrival.seq]
            return
        flow_id = arrival.kind[0]
        self._of_flow[flow_id] -= 1
        if not self._of_flow[flow_id]:
            del self._of_flow[flow_id]
        for each in _kinds_of(arrival.kind):
            there = self._kinds[each]
            del there.numbers[number]
            for table in there.tables.values():
                table.remove(number)
            if not there.numbers:
                del self._kinds[each]

    def expire(self, now_ms: int) -> list[int]:
        """Remove expired arrivals, and return their numbers."""
        expired: list[int] = []
        while self._expiry and self._expiry[0][0] <= now_ms:
            _, number = heapq.heappop(self._expiry)
            if self.take(number) is not None:
                expired.append(number)
        return expired

    def ended(self, seq: int) -> list[int]:
        """Remove the arrivals addressed to an execution that ended, and return their numbers."""
        numbers = list(self._addressed.get(seq, ()))
        for number in numbers:
            self.take(number)
        return numbers

    @property
    def addressed(self) -> int:
        """Number of executions that a buffered arrival is addressed to."""
        return len(self._addressed)

    # --- new subscribers --------------------------------------------------------------------------------------------

    def unknown(self, flow_id: str, subscriptions: Sequence[Subscription]) -> list[int]:
        """Return the numbers of arrivals that must be passed to `learn` before calling `oldest`, ascending."""
        numbers: set[int] = set()
        for _, kind, shape, _ in _filters(flow_id, subscriptions):
            there = self._kinds.get(kind)
            if there is not None and shape != ANYTHING:
                table = there.tables.setdefault(shape, _ShapeIndex(dict(there.numbers)))
                numbers.update(table.unknown)
        return sorted(numbers)

    def learn(self, number: int, payload: bytes) -> None:
        """Read the values of an arrival from its content. Call it in ascending number for each kind."""
        arrival = self._arrivals.get(number)
        if arrival is None:
            return
        flow_id, callback, type_ = arrival.kind
        event = IncomingEvent(flow_id, callback=callback, type_=type_, payload=payload)
        for each in _kinds_of(arrival.kind):
            for shape, table in self._kinds[each].tables.items():
                if next(iter(table.unknown), None) == number:
                    table.learn(number, event.values(shape))

    def oldest(self, seq: int, flow_id: str, subscriptions: Sequence[Subscription]) -> BufferedMatch | None:
        """Return the oldest arrival that matches an execution starting to wait; arrivals of unknown value are skipped.

        If several subscriptions match it, it is delivered to the first.
        """
        found: dict[int, str] = {}
        for key, kind, shape, values in _filters(flow_id, subscriptions):
            number = self._oldest_for(seq, kind, shape, values)
            if number is not None:
                found.setdefault(number, key)
        return BufferedMatch(min(found), found[min(found)]) if found else None

    def _oldest_for(self, seq: int, kind: EventKind, shape: FilterShape, values: bytes) -> int | None:
        numbers = [number for number in self._addressed.get(seq, ()) if kind in _kinds_of(self._arrivals[number].kind)]
        there = self._kinds.get(kind)
        if there is not None and shape == ANYTHING:
            numbers += [next(iter(there.numbers))]
        elif there is not None and shape in there.tables:
            numbers += islice(there.tables[shape].numbers.get(values, ()), 1)
        return min(numbers, default=None)


def _kinds_of(kind: EventKind) -> tuple[EventKind, ...]:
    """Return the kinds of filters that accept arrivals of a kind."""
    flow_id, callback, type_ = kind
    return tuple((flow_id, callback, each) for each in filter_types_for(type_))


def _filters(
    flow_id: str, subscriptions: Sequence[Subscription]
) -> Iterator[tuple[str, EventKind, FilterShape, bytes]]:
    for key, filters, _ in subscriptions:
        for filter_ in filters:
            yield key, (flow_id, filter_.callback, filter_.type), *filter_fingerprint(filter_)
