"""What a flow reacts to, read from its definition.

Source: dsl-reference.md, "Schedule", "Listen", "Event Consumption Strategy".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from flowhook.document.filters import filters_of, literals
from flowhook.document.walk import walk_everywhere
from flowhook.expressions import is_expression, strip
from flowhook.model import Correlation, EventFilter
from router.reactions.filters import ANY_EVENT, Filter, ready, ready_path
from router.schedules.timetable import Timetable, timetable_of
from router.scheduling.matching import Shape


@dataclass(frozen=True, slots=True)
class Trigger:
    """Which events start a flow.

    Attributes:
        filters: alternatives; or, if `all`, there has to be an event for each.
        keys: of each filter, where the values are that are equal in all events of one execution, in the same order.
        all: whether one event is not enough.
    """

    filters: tuple[Filter, ...]
    keys: tuple[tuple[Shape, ...], ...] = ()
    all: bool = False


@dataclass(frozen=True, slots=True)
class Reactions:
    """What a flow reacts to; false when that is nothing.

    Attributes:
        timetable: when it is started by time, if it is.
        trigger: which events start it, if any do.
        listens: events, emitted by flows, that executions of it may wait for: what is certain of them before they do.
    """

    timetable: Timetable | None = None
    trigger: Trigger | None = None
    listens: tuple[Filter, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.timetable or self.trigger or self.listens)


def reactions_of(definition: Mapping[str, Any]) -> Reactions:
    """Return what a flow reacts to.

    Args:
        definition: of a flow that was checked when it was applied.

    Raises:
        InvalidError, KeyError, TypeError, AttributeError: it was not, or by a version that is not compatible.
    """
    schedule = definition.get("schedule", {})
    return Reactions(
        timetable=timetable_of(schedule),
        trigger=_trigger(schedule["on"]) if "on" in schedule else None,
        listens=_listens(definition),
    )


def _trigger(strategy: Mapping[str, Any]) -> Trigger:
    filters = [each for _, each in filters_of(strategy)]
    if "all" not in strategy:
        return Trigger(ready(map(_filter, filters)) or (ANY_EVENT,))
    names = sorted({name for each in filters for name, correlation in _open(each).items()})
    keys = tuple(tuple(ready_path(strip(_open(each)[name]["from"])) for name in names) for each in filters)
    return Trigger(ready(map(_filter, filters)), keys, all=True)


def _listens(definition: Mapping[str, Any]) -> tuple[Filter, ...]:
    callbacks = definition.get("webhook", {}).get("callbacks", {})
    found: dict[Filter, None] = {}
    for placed in walk_everywhere(definition):
        if placed.kind == "listen":
            strategy = placed.task["listen"]["to"]
            if _is_for_any(strategy) or _is_for_any(strategy.get("until")):
                found[ANY_EVENT] = None
            for _, each in filters_of(strategy):
                # expectations of a task are known when it asks, and to the runner
                event_filter = _filter(each)._replace(correlations=())
                if event_filter.type not in callbacks:
                    found |= dict.fromkeys(ready([event_filter]))
    return tuple(found)


def _is_for_any(strategy: object) -> bool:
    return isinstance(strategy, Mapping) and strategy.get("any") == []


def _filter(event_filter: Mapping[str, Any]) -> EventFilter:
    """Return what of a filter is literal."""
    attributes = literals(event_filter)
    type_ = attributes.pop("type", "")
    correlations = tuple(
        Correlation(strip(each["from"]), orjson.dumps(each["expect"]))
        for each in event_filter.get("correlate", {}).values()
        if each.get("expect") is not None and not is_expression(each["expect"])
    )
    return EventFilter(False, type_, tuple(sorted(attributes.items())), correlations)


def _open(event_filter: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the correlations of a filter that expect what the other events of an execution have."""
    return {name: each for name, each in event_filter.get("correlate", {}).items() if each.get("expect") is None}
