"""Who waits for what: events by flow, kind, type and values, and ends of executions."""

from __future__ import annotations

import tracemalloc

import orjson
import pytest

from flowhook.events.lifecycle import WorkflowEventType
from flowhook.expressions.syntax import InvalidExpression
from flowhook.model import Correlation, EventFilter, Subscription
from router.scheduling.matching import EventContent, InboundEvent
from router.scheduling.subscriptions import EventReceiver, Subscriptions

ORDER = ".data.body.order"


def filter_(type_="approval", *, callback=True, attributes=None, **paths):
    correlations = tuple(Correlation(f".data.body.{name}", orjson.dumps(value)) for name, value in paths.items())
    return EventFilter(callback, type_, tuple(sorted((attributes or {}).items())), correlations)


def listen(key="k", *filters):
    return Subscription(key, filters or (filter_(),))


def event(type_="approval", body=None, *, flow="a", callback=True, **attributes):
    content = {"type": type_, "data": {"body": body or {}}, **attributes}
    return InboundEvent(flow, callback=callback, type=type_, content=EventContent(orjson.dumps(content)))


@pytest.fixture
def subscriptions():
    return Subscriptions()


def found(subscriptions, event, limit=1000):
    return [seq for seq, _ in subscriptions.listening(event, limit)]


def test_an_event_finds_those_of_its_flow_kind_and_type(subscriptions):
    for seq, flow, each in [
        (1, "a", filter_()),
        (2, "b", filter_()),
        (3, "a", filter_("refusal")),
        (4, "a", filter_(callback=False)),
        (5, "a", filter_("")),
    ]:
        subscriptions.add(seq, flow, [listen(f"key {seq}", each)])
    assert subscriptions.listening(event(), 9) == [EventReceiver(1, "key 1"), EventReceiver(5, "key 5")]
    assert found(subscriptions, event(callback=False)) == [4]
    assert found(subscriptions, event("other")) == [5]
    assert found(subscriptions, event(flow="c")) == []


def test_an_event_about_an_execution_finds_those_that_name_its_type_and_these_are_known(subscriptions):
    for seq, callback in [(1, False), (2, False), (3, True)]:
        subscriptions.add(seq, "a", [listen("k", filter_(WorkflowEventType.FAULTED, callback=callback))])
    subscriptions.add(4, "b", [listen("k", filter_("", callback=False))])
    reported = event(WorkflowEventType.FAULTED, callback=False)
    assert (found(subscriptions, reported), found(subscriptions, reported._replace(flow_id="b"))) == ([1, 2], [])
    assert subscriptions.flows(WorkflowEventType.FAULTED) == ["a"]
    for seq, known in [(1, True), (3, True), (2, False)]:
        subscriptions.remove(seq)
        assert (WorkflowEventType.FAULTED in subscriptions.lifecycle) is known


def test_attributes_and_correlated_values_must_all_be_equal(subscriptions):
    subscriptions.add(1, "a", [listen("k", filter_(order=7, lines=[1.0, {"b": None}]))])
    subscriptions.add(2, "a", [listen("k", filter_(attributes={"source": "/x", "level": "3"}, order="7"))])
    assert found(subscriptions, event(body={"order": 7.0, "lines": [1, {"b": None}]})) == [1]
    assert found(subscriptions, event(body={"order": 7, "lines": [1]})) == []
    assert found(subscriptions, event(body={"order": "7"}, source="/x", level=3)) == [2]
    assert found(subscriptions, event(body={"order": "7"}, source="/x", level=4)) == []
    assert found(subscriptions, event(body={"order": "7"}, source="/x")) == []


def test_a_path_that_finds_nothing_is_null_and_one_that_can_not_be_followed_is_no_match(subscriptions):
    subscriptions.add(1, "a", [listen("k", EventFilter(True, "approval", (), (Correlation(ORDER, b"null"),)))])
    assert found(subscriptions, event(body={})) == [1]
    assert found(subscriptions, event(body=[1])) == []


def test_long_values_are_distinguished(subscriptions):
    subscriptions.add(1, "a", [listen("k", filter_(order="x" * 1000 + "1"))])
    assert found(subscriptions, event(body={"order": "x" * 1000 + "1"})) == [1]
    assert found(subscriptions, event(body={"order": "x" * 1000 + "2"})) == []


def test_who_waits_longest_comes_first_up_to_the_limit_whatever_filter_it_was(subscriptions):
    for seq in (5, 3, 9, 1):
        subscriptions.add(seq, "a", [listen("k", filter_(order=1) if seq % 3 else filter_())])
    assert found(subscriptions, event(body={"order": 1})) == [5, 3, 9, 1]
    assert found(subscriptions, event(body={"order": 1}), limit=3) == [5, 3, 9]
    subscriptions.remove(3)
    subscriptions.add(3, "a", [listen("k", filter_())])
    assert found(subscriptions, event(body={"order": 1})) == [5, 9, 1, 3]


def test_an_execution_gets_an_event_once_under_the_first_key_that_takes_it(subscriptions):
    subscriptions.add(1, "a", [listen("no", filter_("x")), listen("one", filter_(order=1)), listen("two", filter_())])
    assert subscriptions.listening(event(body={"order": 1}), 9) == [EventReceiver(1, "one")]
    assert subscriptions.listening(event(body={"order": 2}), 9) == [EventReceiver(1, "two")]


def test_what_is_for_an_execution_requests_no_values(subscriptions):
    subscriptions.add(1, "a", [listen("k", filter_("refusal"), filter_(order=1))])
    assert subscriptions.listens(1, event(body={"order": 2})) == EventReceiver(1, "k")
    assert subscriptions.listens(1, event("other")) is None
    assert subscriptions.listens(1, event(callback=False)) is None
    assert subscriptions.listens(2, event()) is None


def test_it_is_known_whether_anybody_waits_for_a_kind(subscriptions):
    subscriptions.add(1, "a", [listen("k", filter_(order=1)), listen("k", filter_("", callback=False))])
    assert subscriptions.concern(("a", True, "approval"))
    assert subscriptions.concern(("a", False, "paid"))
    assert not subscriptions.concern(("a", True, "refusal"))


def test_the_flows_are_known_of_which_anybody_waits_for_emitted_events_of_a_type(subscriptions):
    paid, anything = filter_("paid", callback=False, order=1), filter_("", callback=False)
    subscriptions.add(1, "a", [listen("k", paid)])
    subscriptions.add(2, "a", [listen("k", paid)])
    subscriptions.add(3, "b", [listen("k", anything), listen("l", paid)])
    subscriptions.add(4, "c", [listen("k", filter_("paid"))])
    assert sorted(subscriptions.flows("paid")) == ["a", "b"]
    assert subscriptions.flows("sent") == ["b"]
    subscriptions.remove(1)
    subscriptions.remove(3)
    assert (subscriptions.flows("paid"), subscriptions.flows("sent")) == (["a"], [])


@pytest.mark.parametrize("path", [".data[]", "$context", "1 +"])
def test_a_path_that_is_none_is_refused(subscriptions, path):
    with pytest.raises(InvalidExpression):
        subscriptions.add(1, "a", [listen("k", EventFilter(True, "x", (), (Correlation(path, b"1"),)))])


def test_the_end_of_an_execution_finds_those_who_wait_for_it(subscriptions):
    subscriptions.add(1, "a", [Subscription("run", execution_id="evt_9"), listen("k")])
    subscriptions.await_end(1, "run", 9)
    subscriptions.await_end(2, "other", 9)
    subscriptions.await_end(2, "the same once more", 9)
    subscriptions.await_end(2, "another", 8)
    assert subscriptions.end_receivers(9) == [EventReceiver(1, "run"), EventReceiver(2, "other")]
    subscriptions.remove(1)
    subscriptions.remove(1)
    assert subscriptions.end_receivers(9) == [EventReceiver(2, "other")]
    assert found(subscriptions, event()) == []


def test_one_wait_of_an_execution_is_distinguished_from_the_next(subscriptions):
    first = subscriptions.add(1, "a", [])
    assert subscriptions.is_current(1, first)
    subscriptions.remove(1)
    second = subscriptions.add(1, "a", [])
    assert (subscriptions.is_current(1, first), subscriptions.is_current(1, second)) == (False, True)


def test_nothing_is_left_of_those_who_wait_no_more(subscriptions):
    for seq in range(1, 50):
        subscriptions.add(seq, f"flow {seq % 3}", [listen("k", filter_(order=seq % 4), filter_()), listen("l")])
        subscriptions.await_end(seq, "run", seq % 5)
    for seq in range(1, 50):
        subscriptions.remove(seq)
    assert len(subscriptions) == len(subscriptions.awaited) == 0
    assert not subscriptions._tables
    assert not subscriptions._flows
    assert not subscriptions._awaits


def test_many_who_wait_take_little_memory(subscriptions):
    count = 10_000
    wanted = [(10**6 + seq, [listen("/do/0/wait#0", filter_(order=f"order-{seq}"))]) for seq in range(count)]
    tracemalloc.start()
    for seq, subscription in wanted:
        subscriptions.add(seq, "a", subscription)
    taken = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    assert taken < 450
    assert found(subscriptions, event(body={"order": "order-77"})) == [10**6 + 77]
