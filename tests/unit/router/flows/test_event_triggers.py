"""What a flow reacts to, read from its definition."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.errors import InvalidError
from flowhook.events.lifecycle import WorkflowEventType
from flowhook.expressions.syntax import InvalidExpression
from flowhook.model import Correlation, EventFilter
from router.flows.event_triggers import (
    ANY_EVENT,
    EventJoin,
    EventTrigger,
    FlowIndex,
    FlowRetention,
    FlowTriggers,
    compile_filters,
    compile_path,
    parse_triggers,
)
from router.flows.schedules import EverySpec
from router.scheduling.matching import EventContent, InboundEvent


def listening(*strategies, **parts):
    return parts | {"do": [{f"wait{n}": {"listen": {"to": strategy}}} for n, strategy in enumerate(strategies)]}


def wants(type_="", *correlations, **attributes):
    return compile_filters([EventFilter(False, type_, tuple(sorted(attributes.items())), correlations)])[0]


def test_a_flow_that_waits_for_requests_only_reacts_to_nothing():
    reactions = parse_triggers({"do": [{"a": {"set": {}}}], "webhook": {"auth": "none"}})
    assert reactions == FlowTriggers()
    assert not reactions


def test_a_schedule_by_time_is_a_timetable():
    assert parse_triggers({"schedule": {"every": "PT5S"}, "do": []}) == FlowTriggers(timetable=EverySpec(5000))


@pytest.mark.parametrize(
    ("strategy", "filters"),
    [
        ({"one": {"with": {"type": "a", "source": "/x"}}}, (wants("a", source="/x"),)),
        ({"any": [{"with": {"type": "a"}}, {"with": {"type": "b"}}]}, (wants("a"), wants("b"))),
        ({"any": []}, (ANY_EVENT,)),
        (
            {"one": {"with": {"type": "a"}, "correlate": {"n": {"from": "${ .data.n }", "expect": 7}}}},
            (wants("a", Correlation(".data.n", b"7")),),
        ),
    ],
)
def test_one_event_of_these_starts_the_flow(strategy, filters):
    assert parse_triggers({"schedule": {"on": strategy}, "do": []}).trigger == EventTrigger(filters)


def test_one_event_of_each_starts_the_flow_when_the_values_that_nothing_is_expected_of_are_equal():
    strategy = {
        "all": [
            {
                "with": {"type": "paid"},
                "correlate": {"order": {"from": ".data.order"}, "by": {"from": ".data.by", "expect": "card"}},
            },
            {"with": {"type": "packed"}, "correlate": {"order": {"from": "${ .subject }"}}},
        ]
    }
    assert parse_triggers({"schedule": {"on": strategy}, "do": []}).trigger == EventTrigger(
        (wants("paid", Correlation(".data.by", b'"card"')), wants("packed")),
        ((compile_path(".data.order"),), (compile_path(".subject"),)),
        all=True,
    )


def test_what_tasks_listen_for_is_what_is_literal_of_it_wherever_they_stand():
    definition = listening(
        {"one": {"with": {"type": "a", "subject": "${ $context.s }", "data": {"x": 1}}}},
        {
            "any": [{"with": {"source": "/s"}, "correlate": {"n": {"from": ".data.n", "expect": 1}}}],
            "until": {"one": {"with": {"type": "stop"}}},
        },
        use={"functions": {"f": {"listen": {"to": {"all": [{"with": {"type": "inner"}}, {"with": {"type": "a"}}]}}}}},
    )
    assert parse_triggers(definition).listens == (wants("a"), wants(source="/s"), wants("stop"), wants("inner"))
    regular = listening({"one": {"with": {"type": "a.*", "source": "/s", "subject": "[0-9]+"}}})
    assert parse_triggers(regular).listens == (wants(source="/s"),)


@pytest.mark.parametrize("strategy", [{"any": []}, {"any": [{"with": {"type": "a"}}], "until": {"any": []}}])
def test_a_task_may_listen_for_any_event(strategy):
    assert ANY_EVENT in parse_triggers(listening(strategy)).listens


def test_callbacks_are_not_among_the_events_that_flows_emit():
    definition = listening({"one": {"with": {"type": "approval"}}}, webhook={"callbacks": {"approval": {}}})
    assert not parse_triggers(definition)


def test_a_definition_of_another_version_is_refused():
    with pytest.raises(InvalidError):
        parse_triggers({"schedule": {"every": "often"}, "do": []})
    correlate = {"n": {"from": "now", "expect": 1}}
    with pytest.raises(InvalidExpression):
        parse_triggers({"schedule": {"on": {"one": {"with": {"type": "a"}, "correlate": correlate}}}, "do": []})
    with pytest.raises(KeyError):
        parse_triggers({"schedule": {"on": {"one": {"without": {}}}}, "do": []})


def event(type_="a", **attributes):
    content = {"specversion": "1.0", "id": "1", "source": "/s", "type": type_, **attributes}
    return InboundEvent("", callback=False, type=type_, content=EventContent(orjson.dumps(content)))


@pytest.fixture
def index():
    return FlowIndex()


def test_an_event_concerns_those_that_want_its_type_or_any_each_once(index):
    index.put("one", [wants("a"), wants("a", source="/s")])
    index.put("other", [wants("b")])
    index.put("all", [ANY_EVENT])
    index.put("both", [wants("b"), wants(source="/s")])
    assert sorted(index.find(event())) == ["all", "both", "one"]
    assert sorted(index.find(event("b"))) == ["all", "both", "other"]
    assert index.find(event("c", source="/t")) == ["all"]


def test_an_event_about_an_execution_concerns_those_that_name_its_type(index):
    index.put("named", [wants(WorkflowEventType.FAULTED)])
    index.put("all", [ANY_EVENT])
    index.put("sourced", [wants(source="/s")])
    index.put("other", [wants(WorkflowEventType.COMPLETED), ANY_EVENT])
    assert index.find(event(WorkflowEventType.FAULTED)) == ["named"]
    assert (index.names(WorkflowEventType.FAULTED), index.names(WorkflowEventType.STARTED)) == (True, False)


def test_a_flow_that_changed_wants_what_it_says_now(index):
    index.put("flow", [wants("a"), ANY_EVENT])
    index.put("flow", [wants("b")])
    assert (index.find(event("a")), index.find(event("b"))) == ([], ["flow"])
    index.put("flow", [])
    assert (index.find(event("b")), len(index), index.names("a"), index.names("b")) == ([], 0, False, False)


@pytest.mark.parametrize(
    ("event_filter", "passed"),
    [
        (wants("a", subject="x"), True),
        (wants("a", subject="y"), False),
        (wants("a", missing="x"), False),
        (wants("a", count="7", urgent="true"), True),
        (wants("a", Correlation(".data.n", b"1.0")), True),
        (wants("a", Correlation(".data.n", b'"1"')), False),
        (wants("a", Correlation('"\\(.data.n)/\\(.subject)"', b'"1/x"')), True),
        (wants("a", Correlation(".subject.no", b"null")), False),
    ],
)
def test_an_event_concerns_a_flow_when_it_has_all_that_a_filter_requests(index, event_filter, passed):
    index.put("flow", [event_filter])
    assert index.find(event(subject="x", count=7, urgent=True, data={"n": 1})) == ["flow"] * passed


def trigger(*types, paths=None):
    filters = compile_filters(EventFilter(False, type_) for type_ in types)
    return EventTrigger(
        filters, tuple((compile_path(path),) if path else () for path in paths or [""] * len(types)), all=True
    )


def arriving(type_, data=None, **values):
    payload = orjson.dumps({"type": type_, "data": data or values})
    return InboundEvent("", callback=False, type=type_, content=EventContent(payload))


TWO = trigger("a", "b")
BY_ORDER = trigger("a", "b", paths=[".data.order", ".data.ref"])


def test_events_are_complete_in_the_order_of_the_filters_when_there_is_one_of_each():
    gathering = EventJoin(TWO)
    assert gathering.add(1, arriving("b")) is None
    assert gathering.add(2, arriving("b")) is None
    assert gathering.add(3, arriving("c")) is None
    assert gathering.add(4, arriving("a")) == [4, 1]
    assert gathering.add(5, arriving("a")) == [5, 2]
    assert len(gathering) == 0


def test_only_events_with_equal_values_fit_together():
    gathering = EventJoin(BY_ORDER)
    assert gathering.add(1, arriving("a", order=7)) is None
    assert gathering.add(2, arriving("b", ref=8)) is None
    assert gathering.add(3, arriving("b", ref="7")) is None
    assert gathering.add(4, arriving("b", ref=7.0)) == [1, 4]
    assert gathering.add(5, arriving("a", order=8)) == [5, 2]
    assert len(gathering) == 1


def test_an_event_without_the_value_fits_to_none():
    gathering = EventJoin(BY_ORDER)
    for number, each in enumerate((arriving("a"), arriving("b"), arriving("a", order=None), arriving("a", "text"))):
        assert gathering.add(number, each) is None
    assert len(gathering) == 0


def test_two_filters_for_the_same_events_take_two_events():
    gathering = EventJoin(trigger("a", "a"))
    assert gathering.add(1, arriving("a")) is None
    assert gathering.add(2, arriving("a")) == [1, 2]


def test_an_event_that_no_longer_waits_is_no_part_of_anything():
    gathering = EventJoin(BY_ORDER)
    gathering.add(1, arriving("a", order=1))
    gathering.add(2, arriving("a", order=1))
    gathering.remove(1)
    gathering.remove(99)
    assert gathering.add(3, arriving("b", ref=1)) == [2, 3]
    gathering.add(4, arriving("a", order=2))
    gathering.remove(4)
    assert (len(gathering), gathering.waiting) == (0, {})


EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=40)
OVERLAPPING = trigger("a", "", "b", paths=[".data.order"] * 3)


@given(EVENTS, st.sampled_from([TWO, OVERLAPPING]))
def test_every_event_is_used_once_and_nothing_that_is_complete_waits(events, awaited):
    gathering, used = EventJoin(awaited), []
    for number, (type_, order) in enumerate(events):
        complete = gathering.add(number, arriving(type_, order=order))
        if complete is not None:
            assert number in complete
            used += complete
        assert all(not all(group) for group in gathering.waiting.values())
    assert len(set(used)) == len(used)
    left = {number for group in gathering.waiting.values() for numbers in group for number in numbers}
    assert not set(used) & left


@pytest.mark.parametrize(
    ("given", "retention"),
    [
        ({"age": "P7D", "size": "2MiB"}, FlowRetention(604_800_000, 2 << 20)),
        ({"age": {"hours": 36}}, FlowRetention(129_600_000, None)),
        ({"size": 5_000_000}, FlowRetention(None, 5_000_000)),
    ],
)
def test_a_flow_says_what_is_stored_of_it(given, retention):
    reactions = parse_triggers({"do": [], "execution": {"retention": given}})
    assert reactions == FlowTriggers(retention=retention)
    assert reactions  # so that it is known from the start of a router on
