import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flowhook.cron import MAX_LENGTH
from flowhook.document.loader import canonical, load_definition, parse
from flowhook.document.models.events import Schedule
from flowhook.errors import InvalidFlowError

HEAD = "document: {dsl: 1.0.3, namespace: default, name: orders, version: 1.0.0}\ndo: []\n"


def schedule(text):
    document = parse((HEAD + f"schedule: {text}").encode())
    stored = canonical(document.definition)
    assert load_definition(stored) == document
    return document.workflow.schedule


def test_a_flow_may_be_started_by_time():
    assert schedule("{cron: '30 9 * * MON-FRI'}").cron == "30 9 * * MON-FRI"
    assert schedule("{every: PT15M}").every == 900.0
    assert schedule("{after: {seconds: 1}}").after == 1.0


def test_a_flow_may_be_started_by_events():
    first = "{with: {type: paid, source: /flows/shop}, correlate: {o: {from: .data.paid, expect: true}}}"
    paid, other = schedule(f"{{on: {{any: [{first}, {{with: {{type: x}}}}]}}}}").on.any
    assert (paid.with_.type, paid.with_.source, paid.correlate["o"].expect) == ("paid", "/flows/shop", True)
    assert other.with_.type == "x"


SHARED = "expected order here too, without `expect`: its value must be the same in all events of an execution"
CONSTANT = "expected a constant: there is no data to compute it from before the flow runs"


def on(*correlations):
    filters = ", ".join(f"{{with: {{type: x}}, correlate: {{{each}}}}}" for each in correlations)
    return f"{{on: {{all: [{filters}]}}}}"


def test_events_that_start_a_flow_together_may_have_to_have_equal_values():
    text = on("order: {from: .data.order}", "order: {from: .subject}, n: {from: .id, expect: 1}")
    first, second = schedule(text).on.all
    assert (first.correlate["order"].from_, second.correlate["order"].from_) == (".data.order", ".subject")
    assert (first.correlate["order"].expect, second.correlate["n"].expect) == (None, 1)


@pytest.mark.parametrize(
    ("text", "key", "cause"),
    [
        (on("order: {from: .a}", ""), "schedule.on.all[1].correlate", SHARED),
        (on("order: {from: .a}", "order: {from: .b, expect: 1}"), "schedule.on.all[1].correlate", SHARED),
        (on("order: {from: .a, expect: '${ 1 }'}"), "schedule.on.all[0].correlate.order.expect", CONSTANT),
        (
            "{on: {one: {with: {type: x}, correlate: {order: {from: .a}}}}}",
            "schedule.on.one.correlate.order.expect",
            CONSTANT,
        ),
    ],
)
def test_values_that_are_to_be_equal_are_named_in_every_filter(text, key, cause):
    with pytest.raises(InvalidFlowError) as caught:
        schedule(text)
    assert [(fault.key, fault.cause) for fault in caught.value.faults] == [(key, cause)]


@pytest.mark.parametrize(
    "cron",
    ["* * * * *", "*/15 8-17 * * 1-5", "0 0 1 JAN,JUL *", "0 0 29 2 *", "0 0 L * *", "0 0 * * 5L", "30 0 0 * * SUN#1"],
)
def test_cron_expressions_have_five_fields_or_six(cron):
    assert Schedule(cron=cron).cron == cron


@pytest.mark.parametrize(
    ("cron", "cause"),
    [
        ("* * * *", "expected five fields, or six with the second first, not 4"),
        ("every 5 minutes", "expected five fields, or six with the second first, not 3"),
        ("@daily", "@daily is written 0 0 * * *"),
        ("60 * * * *", "bad minute"),
        ("* * * * MONDAY", "bad day-of-week, there are 0 to 7 and SUN to SAT"),
        ("* * * JUNE *", "bad month, there are 1 to 12 and JAN to DEC"),
        ("0 0 31 2 *", "bad day-of-month"),
    ],
)
def test_what_is_no_cron_expression_is_refused(cron, cause):
    with pytest.raises(ValidationError, match=f"not a cron expression such as .*: {cause}"):
        Schedule(cron=cron)


def test_a_cron_expression_is_limited_in_length():
    with pytest.raises(ValidationError, match="at most 256"):
        Schedule(cron="1," * MAX_LENGTH + "1 * * * *")


@given(st.lists(st.text("0123456789*,-/#LWSUN", max_size=8), min_size=4, max_size=7).map(" ".join))
def test_a_cron_expression_is_fine_or_refused(cron):
    with contextlib.suppress(ValidationError):
        Schedule(cron=cron)


def test_a_time_zone_stands_beside_cron():
    assert Schedule(cron="0 9 * * *", timezone="Europe/Berlin").timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("keys", "cause"),
    [
        ({"timezone": "Europe/Berlin"}, "needs `cron` beside it"),
        ({"every": "PT1H", "timezone": "Europe/Berlin"}, "needs `cron` beside it"),
        ({"cron": "0 9 * * *", "timezone": "Berlin"}, "not a time zone such as Europe/Berlin"),
        (
            {"cron": "0 9 * * *", "every": "PT1H", "timezone": "Europe/Berlin"},
            "exactly one of cron, every, after and on",
        ),
    ],
)
def test_a_time_zone_of_anything_else_or_an_unknown_one_is_refused(keys, cause):
    with pytest.raises(ValidationError, match=cause):
        Schedule(**keys)
