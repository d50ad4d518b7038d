"""What a flow reacts to, read from its definition."""

from __future__ import annotations

import pytest

from flowhook.errors import InvalidError
from flowhook.expressions import InvalidExpression
from flowhook.model import Correlation, EventFilter
from router.triggers.event_triggers.definition import EventTrigger, FlowTriggers, parse_triggers
from router.triggers.event_triggers.filters import ANY_EVENT, compile_filters, compile_path
from router.triggers.schedules.schedule_spec import EverySpec


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
