"""Reads a flow's triggers and event subscriptions from its definition.

Source: dsl-reference.md, "Schedule", "Listen", "Event Consumption Strategy".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from flowhook.document.event_filters import filters_of, literal_attributes
from flowhook.document.walk import walk_everywhere
from flowhook.expressions import is_expression, strip_markers
from flowhook.model import Correlation, EventFilter
from router.scheduling.matching import FilterShape
from router.triggers.event_triggers.filters import ANY_EVENT, CompiledFilter, compile_filters, compile_path
from router.triggers.schedules.schedule_spec import ScheduleSpec, parse_schedule


@dataclass(frozen=True, slots=True)
class EventTrigger:
    """The events that start a flow.

    Attributes:
        filters: alternatives; or, if `all`, one event is needed for each.
        keys: for each filter the paths of the correlation keys, in the same order; all events of one execution have
            equal values there.
        all: whether an event for each filter is needed, rather than for one of them.
    """

    filters: tuple[CompiledFilter, ...]
    keys: tuple[tuple[FilterShape, ...], ...] = ()
    all: bool = False


@dataclass(frozen=True, slots=True)
class FlowTriggers:
    """A flow's schedule, trigger and event subscriptions; false when it has none of them.

    Attributes:
        timetable: its schedule, if it is started by time.
        trigger: the events that start it, if any do.
        listens: filters for emitted events that its executions may wait for, as far as these are known in advance.
    """

    timetable: ScheduleSpec | None = None
    trigger: EventTrigger | None = None
    listens: tuple[CompiledFilter, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.timetable or self.trigger or self.listens)


def parse_triggers(definition: Mapping[str, Any]) -> FlowTriggers:
    """Return a flow's schedule, trigger and event subscriptions.

    Args:
        definition: of a flow that was checked when it was applied.

    Raises:
        InvalidError, KeyError, TypeError, AttributeError: it was not checked, or by an incompatible version.
    """
    schedule = definition.get("schedule", {})
    return FlowTriggers(
        timetable=parse_schedule(schedule),
        trigger=_trigger(schedule["on"]) if "on" in schedule else None,
        listens=_listens(definition),
    )


def _trigger(strategy: Mapping[str, Any]) -> EventTrigger:
    filters = [each for _, each in filters_of(strategy)]
    if "all" not in strategy:
        return EventTrigger(compile_filters(map(_filter, filters)) or (ANY_EVENT,))
    names = sorted({name for each in filters for name, correlation in _open(each).items()})
    keys = tuple(tuple(compile_path(strip_markers(_open(each)[name]["from"])) for name in names) for each in filters)
    return EventTrigger(compile_filters(map(_filter, filters)), keys, all=True)


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
