"""What a flow file may say about the shape of its executions."""

from __future__ import annotations

import pytest

from flowhook.document.loader import canonical, load_definition, parse
from flowhook.document.models.execution import KeyedConcurrency
from flowhook.errors import InvalidFlowError

HEAD = b"""document: {dsl: 1.0.3, namespace: default, name: a, version: 1.0.0}
webhook: {auth: none}
do: [{a: {set: {x: 1}}}]
execution: """


def read(execution):
    return parse(HEAD + execution.encode()).execution


def test_each_has_a_short_and_a_long_form():
    given = read("{rate: {limit: 50, per: PT1S}, concurrency: 3, priority: 2}")
    assert (given.rate.limit, given.rate.per, given.rate.burst, given.rate.key) == (50, 1.0, 1, None)
    assert (given.concurrency, given.priority) == (3, 2)
    given = read(
        "{rate: {limit: 1, per: {days: 31}, burst: 1, key: '${ .body.a }'},"
        " concurrency: {limit: 3, key: '${ .headers.x }'}, priority: '${ .body.p }'}"
    )
    assert (given.rate.per, given.rate.key, given.priority) == (31 * 86400.0, "${ .body.a }", "${ .body.p }")
    assert given.concurrency == KeyedConcurrency(limit=3, key="${ .headers.x }")


def test_what_is_stored_is_read_again():
    document = parse(HEAD + b"{concurrency: {limit: 3, key: '${ .body.x }'}, rate: {limit: 2, per: PT5S}}")
    assert load_definition(canonical(document.definition)).execution == document.execution


@pytest.mark.parametrize(
    ("execution", "key", "cause"),
    [
        ("{rate: {limit: 0, per: PT1S}}", "execution.rate.limit", "at least 1"),
        ("{rate: {limit: -5, per: PT1S}}", "execution.rate.limit", "at least 1"),
        ("{rate: {limit: 1e300, per: PT1S}}", "execution.rate.limit", "integer"),
        ("{rate: {limit: 1000001, per: PT1S}}", "execution.rate.limit", "at most"),
        ("{rate: {limit: 5}}", "execution.rate", "per"),
        ("{rate: {per: PT1S}}", "execution.rate", "limit"),
        ("{rate: 50}", "execution.rate", "mapping"),
        ("{rate: {limit: 5, per: PT0S}}", "execution.rate.per", "longer than zero"),
        ("{rate: {limit: 5, per: P32D}}", "execution.rate.per", "at most"),
        ("{rate: {limit: 5, per: '${ .body.per }'}}", "execution.rate.per", ""),
        ("{rate: {limit: 5, per: PT1S, burst: 6}}", "execution.rate.burst", "at most the limit, 5"),
        ("{rate: {limit: 5, per: PT1S, burst: 0}}", "execution.rate.burst", "at least 1"),
        ("{rate: {limit: 5, per: PT1S, key: .body.x}}", "execution.rate.key", "expected an expression ${ … }"),
        ("{rate: {limit: 5, per: PT1S, key: '${ .body | keys }'}}", "execution.rate.key", "expected a path"),
        ("{rate: {limit: 5, per: PT1S, key: '${ $secrets.x }'}}", "execution.rate.key", ""),
        ("{rate: {limit: 5, per: PT1S, keys: 1}}", "execution.rate.keys", ""),
        ("{debounce: {period: PT1S}}", "execution.debounce", "key"),
        ("{debounce: {key: '${ .body.x }'}}", "execution.debounce", "period"),
        ("{debounce: {key: '${ .body.x }', period: PT0S}}", "execution.debounce.period", "longer than zero"),
        ("{debounce: {key: '${ .body.x }', period: P8D}}", "execution.debounce.period", "at most"),
        ("{debounce: {key: '${ .body.x }', period: PT1S, take: all}}", "execution.debounce.take", ""),
        ("{debounce: {key: x, period: PT1S}}", "execution.debounce.key", "expected an expression"),
        ("{batch: {size: 5}}", "execution.batch", "period"),
        ("{batch: {period: PT1S}}", "execution.batch", "size"),
        ("{batch: {size: 0, period: PT1S}}", "execution.batch.size", "at least 1"),
        ("{batch: {size: 1001, period: PT1S}}", "execution.batch.size", "at most"),
        ("{batch: {size: 5, period: PT0S}}", "execution.batch.period", "longer than zero"),
        ("{batch: {size: 5, period: P8D}}", "execution.batch.period", "at most"),
        ("{batch: {size: 5, period: PT1S, key: x}}", "execution.batch.key", "expected an expression"),
        ("{batch: {size: 5, period: PT1S, take: first}}", "execution.batch.take", ""),
        ("{batch: {size: 5, period: PT1S}, order_by: '${ .body.x }'}", "execution.order_by", "have one execution"),
        ("{batch: {size: 5, period: PT1S}, priority: '${ .body.x }'}", "execution.priority", "have one execution"),
        (
            "{batch: {size: 5, period: PT1S}, debounce: {key: '${ .body.x }', period: PT1S}}",
            "execution.debounce",
            "have one execution",
        ),
        (
            "{batch: {size: 5, period: PT1S}, concurrency: {limit: 2, key: '${ .body.x }'}}",
            "execution.concurrency.key",
            "have one execution",
        ),
        (
            "{batch: {size: 5, period: PT1S}, rate: {limit: 2, per: PT1S, key: '${ .body.x }'}}",
            "execution.rate.key",
            "have one execution",
        ),
        ("{concurrency: 0}", "execution.concurrency", "at least 1"),
        ("{concurrency: 100001}", "execution.concurrency", "at most"),
        ("{concurrency: {limit: 0, key: '${ .body.x }'}}", "execution.concurrency.limit", "at least 1"),
        ("{concurrency: {limit: 2}}", "execution.concurrency", "key"),
        ("{concurrency: {limit: 2, key: 5}}", "execution.concurrency.key", ""),
        ("{concurrency: {limit: 2, key: '${ now }'}}", "execution.concurrency.key", "expected a path"),
        ("{concurrency: '${ .body.x }'}", "execution.concurrency", "integer"),
        ("{priority: 10}", "execution.priority", "at most 9"),
        ("{priority: -1}", "execution.priority", "at least 0"),
        ("{priority: high}", "execution.priority", "expected an expression"),
        ("{priority: [1]}", "execution.priority", ""),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(execution, key, cause):
    with pytest.raises(InvalidFlowError) as caught:
        read(execution)
    (fault,) = caught.value.faults
    assert fault.line == 4
    assert key in f"{fault.key}: {fault.cause}"
    assert cause in f"{fault.key}: {fault.cause}"


def test_a_batch_goes_with_limits_of_the_flow_as_a_whole():
    text = "{batch: {size: 1000, period: P7D}, concurrency: 2, rate: {limit: 5, per: PT1S}, priority: 3}"
    given = read(text).batch
    assert (given.size, given.period, given.key) == (1000, 7 * 86400.0, None)
    replying = HEAD.replace(b"auth: none", b"auth: none, respond: {mode: reply}")
    with pytest.raises(InvalidFlowError) as caught:
        parse(replying + text.encode())
    assert "no reply" in str(caught.value)


def test_a_key_of_an_unparsed_body_is_refused():
    head = HEAD.replace(b"auth: none", b"auth: none, parse: raw")
    for text in (
        b"{rate: {limit: 5, per: PT1S, key: '${ .body.x }'}}",
        b"{concurrency: {limit: 5, key: '${ .body.x }'}}",
        b"{priority: '${ .body.x }'}",
        b"{batch: {size: 5, period: PT1S, key: '${ .body.x }'}}",
    ):
        with pytest.raises(InvalidFlowError):
            parse(head + text)
