"""Finds the flows that an event starts: compiled event filters, the index of triggers, and their correlation.

No I/O. `EventCorrelation` holds events that start an execution only together, one for each filter (`schedule.on.all`).

Source: dsl-reference.md, "Schedule", "Listen", "Event Consumption Strategy".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import attrs
import orjson

from flowhook.document.definition import filters_of, literal_attributes, walk_everywhere
from flowhook.document.quantities import parse_size
from flowhook.errors import InvalidError
from flowhook.events.cloud_events import ReadAs, read_event
from flowhook.expressions.syntax import is_expression, strip_markers
from flowhook.json import dumps_beyond_orjson
from flowhook.model import Correlation, EventFilter
from router.flows.schedules import ScheduleSpec, milliseconds, parse_schedule
from router.scheduling.matching import ANY_TYPE, FilterShape, InboundEvent, filter_fingerprint, filter_types_for

_Key = tuple[bytes, ...]  # correlation key: the values that are equal in all events of one execution


class CompiledFilter(NamedTuple):
    """A compiled filter: matches events of a type (or of any, `ANY_TYPE`) with certain values at a shape's paths."""

    type: str
    shape: FilterShape
    values: bytes

    def matches(self, event: InboundEvent) -> bool:
        return self.type in filter_types_for(event.type) and event.values(self.shape) == self.values


def compile_filters(filters: Iterable[EventFilter]) -> tuple[CompiledFilter, ...]:
    return tuple(CompiledFilter(each.type, *filter_fingerprint(each)) for each in filters)


def compile_path(path: str) -> FilterShape:
    """Return the shape of a single path. An event without a value there, or with null, has the values `NOTHING`."""
    return filter_fingerprint(EventFilter(callback=False, type=ANY_TYPE, correlations=(Correlation(path, b"null"),)))[0]


# the values of an event that has null, or nothing, at the path of a shape with one path
_, NOTHING = filter_fingerprint(EventFilter(callback=False, type=ANY_TYPE, correlations=(Correlation(".", b"null"),)))
# the filter that matches every event
ANY_EVENT = CompiledFilter(ANY_TYPE, *filter_fingerprint(EventFilter(callback=False, type=ANY_TYPE)))


@dataclass(frozen=True, slots=True)
class EventTrigger:
    """The events that start a flow."""

    filters: tuple[CompiledFilter, ...]  # alternatives; or, if `all`, one event is needed for each
    # for each filter the paths of the correlation keys, in the same order; all events of one execution have equal
    # values there
    keys: tuple[tuple[FilterShape, ...], ...] = ()
    all: bool = False  # whether an event for each filter is needed, rather than for one of them
    read: ReadAs = "data"  # what of the events is the input

    def input_of(self, payloads: Iterable[bytes]) -> bytes:
        """Return the input for events, as JSON.

        Raises:
            InvalidError: their data is nested too deeply (`CLOUD_EVENT_INVALID`).
        """
        if self.read == "envelope":
            return b"[%b]" % b",".join(payloads)
        try:
            return dumps_beyond_orjson([read_event(orjson.loads(payload), self.read) for payload in payloads])
        except ValueError:
            cause = "the data of the event is nested too deeply to start a flow"
            raise InvalidError(cause, reason="CLOUD_EVENT_INVALID") from None


class FlowRetention(NamedTuple):
    """What is stored of a flow's executions that have ended; None: what the router is set to."""

    age_ms: int | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class FlowTriggers:
    """What is done for a flow without a request: at a time, or because of an event; false if there is nothing."""

    timetable: ScheduleSpec | None = None  # its schedule, if it is started by time
    trigger: EventTrigger | None = None  # the events that start it, if any do
    # filters for emitted events that its executions may wait for, as far as these are known in advance
    listens: tuple[CompiledFilter, ...] = ()
    expect_ms: int | None = None  # how often it expects an event at least, if it says so
    retention: FlowRetention | None = None  # what is removed of it, if it says so

    def __bool__(self) -> bool:
        return bool(self.timetable or self.trigger or self.listens or self.expect_ms or self.retention)


def parse_triggers(definition: Mapping[str, Any]) -> FlowTriggers:
    """Return a flow's schedule, trigger and event subscriptions.

    Raises:
        InvalidError, KeyError, TypeError, AttributeError: an incompatible version checked the flow when it was applied.
    """
    schedule = definition.get("schedule", {})
    expect = definition.get("webhook", {}).get("expect")
    retention = (definition.get("execution") or {}).get("retention")
    return FlowTriggers(
        timetable=parse_schedule(schedule),
        trigger=_trigger(schedule["on"], schedule.get("read", "data")) if "on" in schedule else None,
        listens=_listens(definition),
        expect_ms=None if expect is None else milliseconds(expect["every"]),
        retention=None if retention is None else _retention(**retention),
    )


def _retention(age: Any = None, size: Any = None) -> FlowRetention:
    return FlowRetention(None if age is None else milliseconds(age), None if size is None else parse_size(size))


def _trigger(strategy: Mapping[str, Any], read: ReadAs) -> EventTrigger:
    filters = [each for _, each in filters_of(strategy)]
    if "all" not in strategy:
        return EventTrigger(compile_filters(map(_filter, filters)) or (ANY_EVENT,), read=read)
    names = sorted({name for each in filters for name, correlation in _open(each).items()})
    keys = tuple(tuple(compile_path(strip_markers(_open(each)[name]["from"])) for name in names) for each in filters)
    return EventTrigger(compile_filters(map(_filter, filters)), keys, all=True, read=read)


def _listens(definition: Mapping[str, Any]) -> tuple[CompiledFilter, ...]:
    callbacks = definition.get("webhook", {}).get("callbacks", {})
    found: dict[CompiledFilter, None] = {}
    for placed in walk_everywhere(definition):
        if placed.kind == "listen":
            strategy = placed.task["listen"]["to"]
            if _is_for_any(strategy) or _is_for_any(strategy.get("until")):
                found[ANY_EVENT] = None
            for _, each in filters_of(strategy):
                # the expected values of a task are evaluated by the runner, when the task begins to listen
                event_filter = _filter(each)._replace(correlations=())
                if event_filter.type not in callbacks:
                    found |= dict.fromkeys(compile_filters([event_filter]))
    return tuple(found)


def _is_for_any(strategy: object) -> bool:
    return isinstance(strategy, Mapping) and strategy.get("any") == []


def _filter(event_filter: Mapping[str, Any]) -> EventFilter:
    """Return the literal part of a filter, without its expressions."""
    attributes = literal_attributes(event_filter)
    type_ = attributes.pop("type", "")
    correlations = tuple(
        Correlation(strip_markers(each["from"]), orjson.dumps(each["expect"]))
        for each in event_filter.get("correlate", {}).values()
        if each.get("expect") is not None and not is_expression(each["expect"])
    )
    return EventFilter(False, type_, tuple(sorted(attributes.items())), correlations)


def _open(event_filter: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the correlations of a filter without an expected value: all events of an execution share their value."""
    return {name: each for name, each in event_filter.get("correlate", {}).items() if each.get("expect") is None}


class FlowIndex:
    """Flows by event type; finding those that want an event takes time linear in the flows with its type, or any."""

    def __init__(self) -> None:
        self._filters: dict[str, tuple[CompiledFilter, ...]] = {}
        self._by_type: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._filters)

    def put(self, flow_id: str, filters: Sequence[CompiledFilter]) -> None:
        """Replace a flow's filters; it wants the events that one of them matches. Empty: it wants none."""
        for each in self._filters.pop(flow_id, ()):
            flows = self._by_type.get(each.type, {})
            flows.pop(flow_id, None)
            if not flows:
                self._by_type.pop(each.type, None)
        if filters:
            self._filters[flow_id] = tuple(filters)
            for each in filters:
                self._by_type.setdefault(each.type, {})[flow_id] = None

    def names(self, type_: str) -> bool:
        return type_ in self._by_type

    def find(self, event: InboundEvent) -> list[str]:
        """Return the flows that want an event, each once."""
        candidates = {flow: None for type_ in filter_types_for(event.type) for flow in self._by_type.get(type_, ())}
        return [flow_id for flow_id in candidates if any(each.matches(event) for each in self._filters[flow_id])]


@attrs.define(eq=False, repr=False)
class EventJoin:
    """Events of one flow that wait for correlated ones, by number. Of those with equal keys, the oldest are used first.

    An event counts for one filter: of those that match it, the one with the fewest waiting events.
    """

    _trigger: EventTrigger
    _groups: dict[_Key, tuple[deque[int], ...]] = attrs.field(init=False, factory=dict)
    _places: dict[int, tuple[_Key, int]] = attrs.field(init=False, factory=dict)

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

    def accepts(self, event: InboundEvent) -> bool:
        return self._place(event) is not None

    def add(self, number: int, event: InboundEvent) -> list[int] | None:
        """Add an event, with ascending numbers.

        Return the numbers of a complete set of events, in the order of the filters, which are removed; None: there is
        not an event for each filter yet.
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
        place = self._places.pop(number, None)
        if place is not None:
            key, index = place
            group = self._groups[key]
            group[index].remove(number)
            if not any(group):
                del self._groups[key]

    def _place(self, event: InboundEvent) -> tuple[_Key, int] | None:
        places = [
            (key, index)
            for index, event_filter in enumerate(self._trigger.filters)
            if event_filter.matches(event) and (key := self._key(index, event)) is not None
        ]
        return min(places, key=self._waiting, default=None)

    def _waiting(self, place: tuple[_Key, int]) -> int:
        key, index = place
        return len(self._groups[key][index]) if key in self._groups else 0

    def _key(self, index: int, event: InboundEvent) -> _Key | None:
        """Return the correlation key of an event for a filter; None when it lacks a value."""
        key: list[bytes] = []
        for shape in self._trigger.keys[index]:
            value = event.values(shape)
            if value is None or value == NOTHING:
                return None
            key.append(value)
        return tuple(key)
