"""What a flow reacts to, read from its definition."""

from __future__ import annotations

import pytest

from flowhook.errors import InvalidError
from flowhook.expressions import InvalidExpression
from flowhook.model import Correlation, EventFilter
from router.reactions.definition import Reactions, Trigger, reactions_of
from router.reactions.filters import ANY_EVENT, ready, ready_path
from router.schedules.timetable import Every


def listening(*strategies, **parts):
    return parts | {"do": [{f"wait{n}": {"listen": {"to": strategy}}} for n, strategy in enumerate(strategies)]}


def wants(type_="", *correlations, **attributes):
    return ready([EventFilter(False, type_, tuple(sorted(attributes.items())), correlations)])[0]


def test_a_flow_that_waits_for_requests_only_reacts_to_nothing():
    reactions = reactions_of({"do": [{"a": {"set": {}}}], "webhook": {"auth": "none"}})
    assert reactions == Reactions()
    assert not reactions


def test_a_schedule_by_time_is_a_timetable():
    assert reactions_of({"schedule": {"every": "PT5S"}, "do": []}) == Reactions(timetable=Every(5000))


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
    assert reactions_of({"schedule": {"on": strategy}, "do": []}).trigger == Trigger(filters)


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
    assert reactions_of({"schedule": {"on": strategy}, "do": []}).trigger == Trigger(
        (wants("paid", Correlation(".data.by", b'"card"')), wants("packed")),
        ((ready_path(".data.order"),), (ready_path(".subject"),)),
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
    assert reactions_of(definition).listens == (wants("a"), wants(source="/s"), wants("stop"), wants("inner"))
    regular = listening({"one": {"with": {"type": "a.*", "source": "/s", "subject": "[0-9]+"}}})
    assert reactions_of(regular).listens == (wants(source="/s"),)


@pytest.mark.parametrize("strategy", [{"any": []}, {"any": [{"with": {"type": "a"}}], "until": {"any": []}}])
def test_a_task_may_listen_for_any_event(strategy):
    assert ANY_EVENT in reactions_of(listening(strategy)).listens


def test_callbacks_are_not_among_the_events_that_flows_emit():
    definition = listening({"one": {"with": {"type": "approval"}}}, webhook={"callbacks": {"approval": {}}})
    assert not reactions_of(definition)


def test_a_definition_of_another_version_is_refused():
    with pytest.raises(InvalidError):
        reactions_of({"schedule": {"every": "often"}, "do": []})
    correlate = {"n": {"from": "now", "expect": 1}}
    with pytest.raises(InvalidExpression):
        reactions_of({"schedule": {"on": {"one": {"with": {"type": "a"}, "correlate": correlate}}}, "do": []})
    with pytest.raises(KeyError):
        reactions_of({"schedule": {"on": {"one": {"without": {}}}}, "do": []})
