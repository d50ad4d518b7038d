"""Events that no execution waits for yet."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, strategies

from flowhook.events.lifecycle import WorkflowEventType
from flowhook.model import Correlation, EventFilter, Subscription
from router.scheduling.matching import EventContent, InboundEvent
from router.scheduling.subscriptions import BufferedMatch, EventBuffer

APPROVAL = ("a", True, "approval")
NEVER = 2**50


def listen(key="k", type_="approval", order=None, *, callback=True):
    correlations = () if order is None else (Correlation(".data.order", orjson.dumps(order)),)
    return Subscription(key, (EventFilter(callback, type_, (), correlations),))


def content(order=0):
    return EventContent(orjson.dumps({"data": {"order": order}}))


def event(number, kind=APPROVAL, expire_at_ms=NEVER, *, seq=0, order=None):
    """An event whose content is in memory if it has an `order`."""
    return InboundEvent(*kind, None if order is None else content(order), number, seq, expire_at_ms)


@pytest.fixture
def retained():
    return EventBuffer()


def test_an_event_about_an_execution_is_for_who_names_its_type(retained):
    retained.add(event(1, ("a", False, WorkflowEventType.FAULTED)))
    assert retained.oldest(7, "a", [listen("any", "", callback=False)]) is None
    assert retained.oldest(7, "a", [listen("k", WorkflowEventType.FAULTED, callback=False)]) == BufferedMatch(1, "k")


def test_who_begins_to_wait_gets_the_oldest_of_its_kind(retained):
    for number, kind in enumerate(
        [("a", True, "refusal"), ("a", False, "paid"), APPROVAL, APPROVAL, ("b", *APPROVAL[1:])]
    ):
        retained.add(event(number, kind))
    assert retained.oldest(7, "a", [listen("x", "none"), listen("k")]) == BufferedMatch(2, "k")
    assert retained.oldest(7, "b", [listen()]) == BufferedMatch(4, "k")
    assert retained.oldest(7, "a", [listen("k"), listen("any", "")]) == BufferedMatch(0, "any")
    assert retained.oldest(7, "a", [listen("any", "", callback=False)]) == BufferedMatch(1, "any")
    retained.pop(2)
    retained.pop(2)
    assert retained.oldest(7, "a", [listen("one"), listen("two")]) == BufferedMatch(3, "one")
    assert retained.oldest(7, "c", [listen()]) is None


def test_emitted_events_of_a_flow_are_reported_oldest_first_from_a_number_on(retained):
    for number, type_ in enumerate(("x", "y", "z", "x"), 1):
        retained.add(event(number, ("a", False, type_)))
    retained.add(event(5, APPROVAL))
    retained.add(event(6, ("b", False, "x")))
    retained.pop(3)
    assert retained.emitted("a", after=0) == [(1, "x"), (2, "y"), (4, "x")]
    assert retained.emitted("a", after=2) == [(4, "x")]
    assert retained.emitted("a", after=4) == retained.emitted("c", after=0) == []
    assert [number in retained for number in (2, 3)] == [True, False]


def test_values_are_looked_up_once_they_are_known(retained):
    for number in range(1, 5):
        retained.add(event(number, order=number % 2))
    wants = [listen("k", order=0)]
    assert retained.unknown("a", wants) == [1, 2, 3, 4]
    retained.add(event(5, APPROVAL, order=0))
    assert retained.unknown("a", wants) == [1, 2, 3, 4, 5]
    for number in retained.unknown("a", wants):
        retained.learn(number, content(number % 2).payload)
    assert retained.unknown("a", wants) == retained.unknown("a", [listen()]) == []
    assert retained.oldest(7, "a", wants) == BufferedMatch(2, "k")
    retained.add(event(6, APPROVAL, order=6))
    assert retained.unknown("a", [listen(order=6)]) == []
    assert retained.oldest(7, "a", [listen("k", order=6)]) == BufferedMatch(6, "k")
    assert retained.oldest(7, "a", [listen("k", order=9)]) is None


def test_one_that_is_for_an_execution_is_for_no_other_and_needs_no_values(retained):
    retained.add(event(1, seq=7))
    assert retained.oldest(8, "a", [listen()]) is None
    assert retained.unknown("a", [listen(order=3)]) == []
    assert retained.oldest(7, "a", [listen("x", "refusal"), listen("k", order=3)]) == BufferedMatch(1, "k")
    assert len(retained.addressed) == 1


def test_what_was_for_an_execution_that_ended_is_forgotten(retained):
    for number, seq in enumerate([7, 8, 7, 0], 1):
        retained.add(event(number, seq=seq))
    assert retained.ended(7) == [1, 3]
    assert retained.ended(7) == []
    assert (len(retained), retained.of_flow("a"), len(retained.addressed)) == (2, 1, 1)
    assert [retained.concern(*each) for each in [(7, "b"), (8, "b"), (7, "a")]] == [False, True, True]


def test_events_are_forgotten_when_their_time_is_over(retained):
    for number, expire_at_ms in enumerate([30, 10, 20, 40], 1):
        retained.add(event(number, APPROVAL, expire_at_ms))
    retained.pop(3)
    assert retained.expire(9) == []
    assert retained.expire(30) == [2, 1]
    assert (len(retained), retained.oldest(7, "a", [listen()])) == (1, BufferedMatch(4, "k"))


def test_the_order_of_expiry_does_not_grow_with_what_is_gone(retained):
    for number in range(5000):
        retained.add(event(number, APPROVAL))
        retained.pop(number)
    assert len(retained._expiry) < 1100
    assert not retained._kinds
    assert not retained._of_flow


def test_one_that_nobody_could_take_after_all_is_the_oldest_again(retained):
    for number in (1, 2):
        retained.add(event(number, order=number))
    wants = [listen("k", order=0)]
    for number in retained.unknown("a", wants):
        retained.learn(number, content().payload)
    unconsumed = retained.pop(1)
    retained.add(event(3, APPROVAL, order=0))
    retained.add(unconsumed._replace(content=content()))
    assert retained.oldest(7, "a", [listen()]) == BufferedMatch(1, "k")
    assert retained.unknown("a", wants) == [1, 2, 3]


@given(
    strategies.lists(
        strategies.tuples(
            strategies.sampled_from(["keep", "keep without content", "remove", "learn", "look"]),
            strategies.sampled_from([APPROVAL, ("a", True, "refusal")]),
            strategies.integers(0, 2),
        ),
        max_size=40,
    )
)
def test_what_is_found_is_what_a_search_through_all_would_find(steps):
    retained, model, number = EventBuffer(), {}, 0
    for step, kind, order in steps:
        wants = [listen("typed", kind[2], order), listen("any", "", order)]
        if step.startswith("keep"):
            number += 1
            model[number] = (kind, order)
            retained.add(event(number, kind, order=order if step == "keep" else None))
        elif step == "remove" and model:
            retained.pop(removed := sorted(model)[order % len(model)])
            del model[removed]
        elif step == "learn":
            for each in retained.unknown("a", wants)[:order]:
                retained.learn(each, content(model[each][1]).payload)
        elif step == "look":
            for each in retained.unknown("a", wants):
                retained.learn(each, content(model[each][1]).payload)
            fitting = [each for each, (_, its) in sorted(model.items()) if its == order]
            expected = (
                None if not fitting else BufferedMatch(fitting[0], "typed" if model[fitting[0]][0] == kind else "any")
            )
            assert retained.oldest(7, "a", wants) == expected
    assert len(retained) == retained.of_flow("a") == len(model)
