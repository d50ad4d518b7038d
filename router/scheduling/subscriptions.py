"""Subscriptions of executions that wait for events, matched by filter, and a buffer of events without a subscriber.

An event finds its subscribers with one lookup for each filter shape its flow uses for its type. Shapes are written in
flow files, so there are few of them however many executions wait. An execution that waits for one event takes about 300
bytes.

The buffer is the mirror of that: an execution that starts to wait finds its event with one lookup for each of its
filters. An event's values for a shape are known if its content was in memory when it was added and the shape had been
looked up before; otherwise they are *unknown* until the content is read again and passed to `learn`. This applies only
to shapes that compare values.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from operator import attrgetter
from typing import Final, NamedTuple

import attrs

from flowhook.events.lifecycle import TYPES
from flowhook.model import Subscription
from router.scheduling.matching import (
    ANY_TYPE,
    ANYTHING,
    EventContent,
    EventKind,
    FilterShape,
    InboundEvent,
    filter_fingerprint,
    filter_types_for,
)

WaitHandle = object  # one wait of one execution


class EventReceiver(NamedTuple):
    """A waiting execution, and the key of the journal entry that will record the event or end it waits for."""

    seq: int
    key: str


@attrs.define(eq=False, repr=False)
class _FilterTable:
    """Filters of one kind and one shape, by the values they expect."""

    kind: EventKind
    shape: FilterShape
    # most values are expected by one execution only: an inner dict takes as much memory as all the rest
    places: dict[bytes, _FilterEntry | dict[int, _FilterEntry]] = attrs.field(init=False, factory=dict)

    def put(self, entry: _FilterEntry) -> None:
        there = self.places.get(entry.values)
        if there is None:
            self.places[entry.values] = entry
        elif isinstance(there, dict):
            there[entry.order] = entry
        else:
            self.places[entry.values] = {there.order: there, entry.order: entry}

    def take_out(self, entry: _FilterEntry) -> None:
        there = self.places[entry.values]
        if isinstance(there, dict):
            del there[entry.order]
        if not isinstance(there, dict) or not there:
            del self.places[entry.values]

    def find(self, values: bytes, limit: int) -> Iterator[_FilterEntry]:
        """Yield the filters that expect these values, longest waiting first."""
        there = self.places.get(values)
        if isinstance(there, dict):
            yield from islice(there.values(), limit)
        elif there is not None:
            yield there


@attrs.define(eq=False, repr=False)
class _FilterEntry:
    """One filter of one execution; the smaller `order` has waited longer."""

    table: _FilterTable
    values: bytes
    seq: int
    key: str
    order: int


_by_order: Final = attrgetter("order")


class Subscriptions:
    """All subscriptions of a shard. An execution is listed for as long as it waits, whatever ends the wait."""

    def __init__(self) -> None:
        self._tables: dict[EventKind, dict[FilterShape, _FilterTable]] = {}
        self._flows: dict[tuple[bool, str], dict[str, None]] = {}
        self._places: dict[int, list[_FilterEntry]] = {}
        self._awaits: dict[int, dict[int, str]] = {}
        self.awaited: dict[int, dict[int, None]] = {}  # those that wait for an end, by the execution that ends
        self._order = 0
        self.lifecycle: set[str] = set()  # types of lifecycle events that some execution waits for

    def __len__(self) -> int:
        return len(self._places)

    # --- events -----------------------------------------------------------------------------------------------------

    def add(self, seq: int, flow_id: str, subscriptions: Sequence[Subscription]) -> WaitHandle:
        """Subscribe an execution that is not listed yet to events; subscribe it to ends with `await_end`.

        Returns a handle for `is_current` that distinguishes this wait from a later one of the same execution.
        """
        places: list[_FilterEntry] = []
        for key, filters, _ in subscriptions:
            shared = sys.intern(key)
            for filter_ in filters:
                shape, values = filter_fingerprint(filter_)
                table = self._table((flow_id, filter_.callback, filter_.type), shape)
                self._order += 1
                places.append(_FilterEntry(table, values, seq, shared, self._order))
                table.put(places[-1])
        self._places[seq] = places
        return places

    def is_current(self, seq: int, wait: WaitHandle) -> bool:
        """Whether an execution still waits as it did when `add` returned `wait`."""
        return self._places.get(seq) is wait

    def _table(self, kind: EventKind, shape: FilterShape) -> _FilterTable:
        flow_id, callback, type_ = kind
        tables = self._tables.setdefault(kind, {})
        self._flows.setdefault((callback, type_), {})[flow_id] = None
        if type_ in TYPES and not callback:
            self.lifecycle.add(type_)
        table = tables.get(shape)
        if table is None:
            table = tables[shape] = _FilterTable(kind, shape)
        return table

    def remove(self, seq: int) -> None:
        """Remove an execution that no longer waits; nothing happens when it is not listed."""
        for place in self._places.pop(seq, ()):
            table = place.table
            table.take_out(place)
            if not table.places:
                tables = self._tables[table.kind]
                del tables[table.shape]
                if not tables:
                    self._forget_kind(table.kind)
        for awaited in self._awaits.pop(seq, ()):
            parents = self.awaited[awaited]
            del parents[seq]
            if not parents:
                del self.awaited[awaited]

    def shapes(self, kind: EventKind) -> set[FilterShape]:
        flow_id, callback, type_ = kind
        return {shape for each in filter_types_for(type_) for shape in self._tables.get((flow_id, callback, each), ())}

    def listening(self, event: InboundEvent, limit: int) -> list[EventReceiver]:
        """Return the receivers that wait for an event, at most `limit`, longest waiting first.

        Each execution is listed once, with the first of its subscriptions that accepts the event: what it waits for
        next depends on the event it receives first.
        """
        places: list[_FilterEntry] = []
        # Filters {order: 5} and {order: 6} of 1,000 executions have one shape (.data.order): an event is read once, and
        # its fingerprint finds the executions with one look-up. A filter without values has the shape `ANYTHING`.
        for type_ in filter_types_for(event.type):
            for shape, table in self._tables.get((event.flow_id, event.callback, type_), {}).items():
                values = event.values(shape)
                if values is not None:
                    places += table.find(values, limit)
        places.sort(key=_by_order)
        receivers: dict[int, str] = {}
        for place in places:
            receivers.setdefault(place.seq, place.key)
        return [EventReceiver(seq, key) for seq, key in islice(receivers.items(), limit)]

    def flows(self, type_: str) -> list[str]:
        """Return the flows with executions that wait for emitted events of a type, regardless of expected values."""
        return list({flow: None for each in filter_types_for(type_) for flow in self._flows.get((False, each), ())})

    def concern(self, kind: EventKind) -> bool:
        """Whether any execution waits for events of a kind, regardless of expected values."""
        flow_id, callback, type_ = kind
        return any((flow_id, callback, each) in self._tables for each in filter_types_for(type_))

    def listens(self, seq: int, event: InboundEvent) -> EventReceiver | None:
        """Return an execution as receiver of an event addressed to it, if it waits for one, regardless of values."""
        for place in self._places.get(seq, ()):
            _, callback, type_ = place.table.kind
            if callback == event.callback and type_ in (event.type, ANY_TYPE):
                return EventReceiver(seq, place.key)
        return None

    def _forget_kind(self, kind: EventKind) -> None:
        flow_id, callback, type_ = kind
        flows = self._flows[callback, type_]
        del self._tables[kind], flows[flow_id]
        if not flows:
            del self._flows[callback, type_]
            if not callback:
                self.lifecycle.discard(type_)

    # --- ends -------------------------------------------------------------------------------------------------------

    def await_end(self, seq: int, key: str, awaited: int) -> None:
        """Subscribe an execution to the end of another; of several keys for the same end the first counts."""
        self._awaits.setdefault(seq, {}).setdefault(awaited, sys.intern(key))
        self.awaited.setdefault(awaited, {})[seq] = None

    def end_receivers(self, awaited: int) -> list[EventReceiver]:
        return [EventReceiver(seq, self._awaits[seq][awaited]) for seq in self.awaited.get(awaited, ())]


# stale entries the heap may hold, besides one for each event in the buffer, before it is rebuilt
MIN_STALE: Final = 1024


class BufferedMatch(NamedTuple):
    """A buffered event for an execution that starts to wait, and the key of the journal entry that records it."""

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
    """All events of one kind, oldest first, and the shapes looked up while there were any."""

    numbers: dict[int, None] = field(default_factory=dict)
    tables: dict[FilterShape, _ShapeIndex] = field(default_factory=dict)


class EventBuffer:
    """The buffered events of a shard.

    They are added in ascending number, except for a few that come back because no execution could take them.
    """

    def __init__(self) -> None:
        self._events: dict[int, InboundEvent] = {}
        self._kinds: dict[EventKind, _KindIndex] = {}
        self.addressed: dict[int, dict[int, None]] = {}  # events for one execution, by that
        self._of_flow: dict[str, int] = {}
        self._expiry: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._events)

    def __contains__(self, number: int) -> bool:
        return number in self._events

    def of_flow(self, flow_id: str) -> int:
        """Return the number of buffered events of a flow that are addressed to no particular execution."""
        return self._of_flow.get(flow_id, 0)

    def emitted(self, flow_id: str, *, after: int) -> list[tuple[int, str]]:
        """Return number and type of the emitted events buffered for a flow after a given number, oldest first."""
        there = self._kinds.get((flow_id, False, ANY_TYPE))
        newest_first = () if there is None else takewhile(lambda number: number > after, reversed(there.numbers))
        return [(number, self._events[number].kind[2]) for number in newest_first][::-1]

    def shapes(self, kind: EventKind) -> set[FilterShape]:
        """Return the shapes looked up in the buffer for a kind; they also apply to events added later."""
        return {shape for each in _kinds_of(kind) if each in self._kinds for shape in self._kinds[each].tables}

    def concern(self, seq: int, flow_id: str) -> bool:
        return flow_id in self._of_flow or seq in self.addressed

    def add(self, event: InboundEvent) -> None:
        """Buffer an event; later ones have greater numbers. Of its content, only what filters look up is retained."""
        number, kind = event.number, event.kind
        self._events[number] = event._replace(content=None)
        heapq.heappush(self._expiry, (event.expire_at_ms, number))
        if event.seq:
            self.addressed.setdefault(event.seq, {})[number] = None
            return
        self._of_flow[event.flow_id] = self._of_flow.get(event.flow_id, 0) + 1
        for each in _kinds_of(kind):
            there = self._kinds.setdefault(each, _KindIndex())
            # an event that no execution could take comes back, older than the newest: the index is ordered by number
            if there.numbers and number < next(reversed(there.numbers)):
                self._kinds[each] = _KindIndex(dict.fromkeys(sorted([*there.numbers, number])))
                continue
            there.numbers[number] = None
            for shape, table in there.tables.items():
                if event.content is None or table.unknown:
                    table.unknown[number] = None
                else:
                    table.learn(number, event.values(shape))

    def pop(self, number: int) -> InboundEvent | None:
        event = self._events.pop(number, None)
        if event is not None:
            self._forget(event)
        return event

    def _forget(self, event: InboundEvent) -> None:
        number, flow_id = event.number, event.flow_id
        if len(self._expiry) > MIN_STALE + 2 * len(self._events):
            self._expiry = [(each.expire_at_ms, each.number) for each in self._events.values()]
            heapq.heapify(self._expiry)
        if event.seq:
            addressed = self.addressed[event.seq]
            del addressed[number]
            if not addressed:
                del self.addressed[event.seq]
            return
        self._of_flow[flow_id] -= 1
        if not self._of_flow[flow_id]:
            del self._of_flow[flow_id]
        for each in _kinds_of(event.kind):
            there = self._kinds[each]
            del there.numbers[number]
            for table in there.tables.values():
                table.remove(number)
            if not there.numbers:
                del self._kinds[each]

    def expire(self, now_ms: int) -> list[int]:
        expired: list[int] = []
        while self._expiry and self._expiry[0][0] <= now_ms:
            _, number = heapq.heappop(self._expiry)
            if self.pop(number) is not None:
                expired.append(number)
        return expired

    def ended(self, seq: int) -> list[int]:
        numbers = list(self.addressed.get(seq, ()))
        for number in numbers:
            self.pop(number)
        return numbers

    # --- new subscribers --------------------------------------------------------------------------------------------

    def unknown(self, flow_id: str, subscriptions: Sequence[Subscription]) -> list[int]:
        """Return the numbers of events that must be passed to `learn` before calling `oldest`, ascending."""
        numbers: set[int] = set()
        for _, kind, shape, _ in _filters(flow_id, subscriptions):
            there = self._kinds.get(kind)
            if there is not None and shape != ANYTHING:
                table = there.tables.setdefault(shape, _ShapeIndex(dict(there.numbers)))
                numbers.update(table.unknown)
        return sorted(numbers)

    def learn(self, number: int, payload: bytes) -> None:
        """Read the values of an event from its content. Call it in ascending number for each kind."""
        event = self._events.get(number)
        if event is None:
            return
        event = event._replace(content=EventContent(payload))
        for each in _kinds_of(event.kind):
            for shape, table in self._kinds[each].tables.items():
                if next(iter(table.unknown), None) == number:
                    table.learn(number, event.values(shape))

    def oldest(self, seq: int, flow_id: str, subscriptions: Sequence[Subscription]) -> BufferedMatch | None:
        """Return the oldest event that matches an execution starting to wait; those of unknown value are skipped.

        If several subscriptions match it, it is delivered to the first.
        """
        found: dict[int, str] = {}
        for key, kind, shape, values in _filters(flow_id, subscriptions):
            number = self._oldest_for(seq, kind, shape, values)
            if number is not None:
                found.setdefault(number, key)
        return BufferedMatch(min(found), found[min(found)]) if found else None

    def _oldest_for(self, seq: int, kind: EventKind, shape: FilterShape, values: bytes) -> int | None:
        numbers = [number for number in self.addressed.get(seq, ()) if kind in _kinds_of(self._events[number].kind)]
        there = self._kinds.get(kind)
        if there is not None and shape == ANYTHING:
            numbers += [next(iter(there.numbers))]
        elif there is not None and shape in there.tables:
            numbers += islice(there.tables[shape].numbers.get(values, ()), 1)
        return min(numbers, default=None)


def _kinds_of(kind: EventKind) -> tuple[EventKind, ...]:
    flow_id, callback, type_ = kind
    return tuple((flow_id, callback, each) for each in filter_types_for(type_))


def _filters(
    flow_id: str, subscriptions: Sequence[Subscription]
) -> Iterator[tuple[str, EventKind, FilterShape, bytes]]:
    for key, filters, _ in subscriptions:
        for filter_ in filters:
            yield key, (flow_id, filter_.callback, filter_.type), *filter_fingerprint(filter_)
