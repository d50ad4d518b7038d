"""Subscriptions of waiting executions to events and to the ends of other executions.

An event finds its subscribers with one lookup for each filter shape its flow uses for its type. Shapes are written in
flow files, so there are few of them however many executions wait. An execution that waits for one event takes about
300 bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Final, NamedTuple

import attrs

from flowhook.events.lifecycle import TYPES
from flowhook.model import Subscription
from router.scheduling.matching import ANY_TYPE, FilterShape, IncomingEvent, filter_fingerprint, filter_types_for

EventKind = tuple[str, bool, str]
"""Flow, whether it is a callback, and type of events (`ANY_TYPE`: every type)."""


WaitHandle = object
"""One wait of one execution."""


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

    def put(self, place: _FilterEntry) -> None:
        there = self.places.get(place.values)
        if there is None:
            self.places[place.values] = place
        elif isinstance(there, dict):
            there[place.order] = place
        else:
            self.places[place.values] = {there.order: there, place.order: place}

    def take_out(self, place: _FilterEntry) -> None:
        there = self.places[place.values]
        if isinstance(there, dict):
            del there[place.order]
        if not isinstance(there, dict) or not there:
            del self.places[place.values]

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
        self._awaited: dict[int, dict[int, None]] = {}
        self._order = 0
        self.lifecycle: set[str] = set()
        """Types of lifecycle events that some execution waits for."""

    def __len__(self) -> int:
        """Return the number of executions that wait for an event or an end."""
        return len(self._places)

    # --- events -----------------------------------------------------------------------------------------------------

    def add(self, seq: int, flow_id: str, subscriptions: Sequence[Subscription]) -> WaitHandle:
        """Subscribe an execution that is not listed yet to events; subscribe it to ends with `await_end`.

        Returns:
            A handle for `is_current` that distinguishes this wait from a later one of the same execution.
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
            parents = self._awaited[awaited]
            del parents[seq]
            if not parents:
                del self._awaited[awaited]

    def shapes(self, kind: EventKind) -> set[FilterShape]:
        """Return the shapes of all filters that accept events of a kind."""
        flow_id, callback, type_ = kind
        return {shape for each in filter_types_for(type_) for shape in self._tables.get((flow_id, callback, each), ())}

    def listening(self, event: IncomingEvent, limit: int) -> list[EventReceiver]:
        """Return the receivers that wait for an event, at most `limit`, longest waiting first.

        Each execution is listed once, with the first of its subscriptions that accepts the event: what it waits for
        next depends on the event it receives first.
        """
        places: list[_FilterEntry] = []
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

    def listens(self, seq: int, event: IncomingEvent) -> EventReceiver | None:
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
        self._awaited.setdefault(awaited, {})[seq] = None

    def end_receivers(self, awaited: int) -> list[EventReceiver]:
        """Return the receivers that wait for the end of an execution, longest waiting first."""
        return [EventReceiver(seq, self._awaits[seq][awaited]) for seq in self._awaited.get(awaited, ())]

    @property
    def ends_awaited(self) -> int:
        """Number of executions whose end another execution waits for."""
        return len(self._awaited)
