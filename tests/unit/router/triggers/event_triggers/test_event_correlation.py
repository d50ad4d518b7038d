"""Events that start an execution when there is one of each."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from flowhook.model import EventFilter
from router.scheduling.matching import IncomingEvent
from router.triggers.event_triggers.definition import EventTrigger
from router.triggers.event_triggers.event_correlation import EventJoin
from router.triggers.event_triggers.filters import compile_filters, compile_path


def trigger(*types, paths=None):
    filters = compile_filters(EventFilter(False, type_) for type_ in types)
    return EventTrigger(
        filters, tuple((compile_path(path),) if path else () for path in paths or [""] * len(types)), all=True
    )


def event(type_, data=None, **values):
    payload = orjson.dumps({"type": type_, "data": data or values})
    return IncomingEvent("", callback=False, type_=type_, payload=payload)


TWO = trigger("a", "b")
BY_ORDER = trigger("a", "b", paths=[".data.order", ".data.ref"])


def test_events_are_complete_in_the_order_of_the_filters_when_there_is_one_of_each():
    gathering = EventJoin(TWO)
    assert gathering.add(1, event("b")) is None
    assert gathering.add(2, event("b")) is None
    assert gathering.add(3, event("c")) is None
    assert gathering.add(4, event("a")) == [4, 1]
    assert gathering.add(5, event("a")) == [5, 2]
    assert len(gathering) == 0


def test_only_events_with_equal_values_fit_together():
    gathering = EventJoin(BY_ORDER)
    assert gathering.add(1, event("a", order=7)) is None
    assert gathering.add(2, event("b", ref=8)) is None
    assert gathering.add(3, event("b", ref="7")) is None
    assert gathering.add(4, event("b", ref=7.0)) == [1, 4]
    assert gathering.add(5, event("a", order=8)) == [5, 2]
    assert len(gathering) == 1


def test_an_event_without_the_value_fits_to_none():
    gathering = EventJoin(BY_ORDER)
    for number, each in enumerate((event("a"), event("b"), event("a", order=None), event("a", "text"))):
        assert gathering.add(number, each) is None
    assert len(gathering) == 0


def test_two_filters_for_the_same_events_take_two_events():
    gathering = EventJoin(trigger("a", "a"))
    assert gathering.add(1, event("a")) is None
    assert gathering.add(2, event("a")) == [1, 2]


def test_an_event_that_no_longer_waits_is_no_part_of_anything():
    gathering = EventJoin(BY_ORDER)
    gathering.add(1, event("a", order=1))
    gathering.add(2, event("a", order=1))
    gathering.remove(1)
    gathering.remove(99)
    assert gathering.add(3, event("b", ref=1)) == [2, 3]
    gathering.add(4, event("a", order=2))
    gathering.remove(4)
    assert (len(gathering), gathering.waiting) == (0, {})


EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=40)
OVERLAPPING = trigger("a", "", "b", paths=[".data.order"] * 3)


@given(EVENTS, st.sampled_from([TWO, OVERLAPPING]))
def test_every_event_is_used_once_and_nothing_that_is_complete_waits(events, awaited):
    gathering, used = EventJoin(awaited), []
    for number, (type_, order) in enumerate(events):
        complete = gathering.add(number, event(type_, order=order))
        if complete is not None:
            assert number in complete
            used += complete
        assert all(not all(group) for group in gathering.waiting.values())
    assert len(set(used)) == len(used)
    left = {number for group in gathering.waiting.values() for numbers in group for number in numbers}
    assert not set(used) & left
