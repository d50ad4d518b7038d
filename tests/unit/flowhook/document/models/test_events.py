import pytest

from flowhook import limits
from flowhook.document.loader import canonical, load_definition, parse
from flowhook.document.models.events import MAX_CORRELATIONS
from flowhook.errors import InvalidFlowError

HEAD = "document: {dsl: 1.0.3, namespace: default, name: orders, version: 1.0.0}\n"

LISTENING = """\
webhook: {auth: none, callbacks: {approval: {auth: none}}}
do:
  - decide:
      listen:
        to:
          one:
            with: {type: approval}
            correlate:
              order: {from: '${ .data.body.order }', expect: '${ $context.order }'}
              stage: {from: .data.stage, expect: 2}
  - measure:
      listen:
        to:
          any:
            - with: {type: temperature, source: https://example.com/a, roomid: "5", data: '${ . > $context.limit }'}
            - with: {subject: '${ $context.patient }', data: {urgent: true}}
          until: (. | length) == 3
        read: envelope
      foreach:
        item: event
        at: i
        do:
          - keep: {set: {number: '${ $i }', kind: '${ $event.type }'}}
        output: {as: '${ .kind + $event.id }'}
        export: {as: '${ $context + {($event.type): $output} }'}
  - both:
      listen: {to: {all: [{with: {type: a}}, {with: {type: b}}]}}
  - gather:
      listen: {to: {any: [], until: {any: [{with: {type: done}}]}}}
"""


def codes(text):
    with pytest.raises(InvalidFlowError) as caught:
        parse((HEAD + text).encode(), functions=set())
    return [(fault.key, fault.code) for fault in caught.value.faults]


def test_listen_tasks_of_all_kinds_load_as_their_author_wrote_them():
    document = parse((HEAD + LISTENING).encode(), functions=set())
    decide, measure, both, gather = (item.task for item in document.workflow.do)
    assert decide.listen.read == "data"
    assert decide.listen.to.one.with_.type == "approval"
    assert [(each.from_, each.expect) for each in decide.listen.to.one.correlate.values()] == [
        ("${ .data.body.order }", "${ $context.order }"),
        (".data.stage", 2),
    ]
    ward, urgent = measure.listen.to.any
    assert ward.with_.model_extra == {"roomid": "5"}
    assert urgent.with_.data == {"urgent": True}
    assert (measure.listen.to.until, measure.foreach.item, measure.foreach.at) == ("(. | length) == 3", "event", "i")
    assert [each.with_.type for each in both.listen.to.all] == ["a", "b"]
    assert (gather.listen.to.any, gather.listen.to.until.any[0].with_.type) == ((), "done")
    stored = canonical(document.definition)
    assert load_definition(stored) == document
    assert document.definition["do"][3]["gather"] == {
        "listen": {"to": {"any": [], "until": {"any": [{"with": {"type": "done"}}]}}}
    }


@pytest.mark.parametrize("place", ["any", "all"])
def test_filters_are_limited_in_number(place):
    def text(number):
        return f"do: [{{a: {{listen: {{to: {{{place}: [{', '.join(['{with: {type: x}}'] * number)}]}}}}}}}}]"

    assert parse((HEAD + text(limits.MAX_EVENT_FILTERS)).encode())
    assert codes(text(limits.MAX_EVENT_FILTERS + 1)) == [(f"do[0].a.listen.to.{place}", "VALUE_RANGE")]


def test_filters_are_limited_in_number_those_of_until_included():
    def text(number):
        half = ", ".join(["{with: {type: x}}"] * (limits.MAX_EVENT_FILTERS // 2))
        rest = ", ".join(["{with: {type: y}}"] * (number - limits.MAX_EVENT_FILTERS // 2))
        return f"do: [{{a: {{listen: {{to: {{any: [{half}], until: {{any: [{rest}]}}}}}}}}}}]"

    assert parse((HEAD + text(limits.MAX_EVENT_FILTERS)).encode())
    assert codes(text(limits.MAX_EVENT_FILTERS + 1)) == [("do[0].a.listen.to.until", "VALUE_RANGE")]


def test_correlations_are_limited_in_number():
    correlations = ", ".join(f"c{number}: {{from: .data}}" for number in range(MAX_CORRELATIONS + 1))
    text = f"do: [{{a: {{listen: {{to: {{one: {{with: {{type: x}}, correlate: {{{correlations}}}}}}}}}}}}}]"
    assert codes(text) == [("do[0].a.listen.to.one.correlate", "VALUE_RANGE")]


ANYBODY = "{auth: none, callbacks: {approval: {auth: none}}}"


@pytest.mark.parametrize(
    "filters",
    [
        "{one: {with: {type: approval}}}",
        "{one: {with: {type: approval, data: '${ .body.ok }'}}}",
        "{one: {with: {type: approval}, correlate: {any: {from: .data}}}}",
        "{one: {with: {type: approval}, correlate: {order: {from: .data.body.order, expect: 7}}}}",
        "{any: [{with: {type: x}}], until: {one: {with: {type: approval}}}}",
    ],
)
def test_an_unprotected_callback_needs_a_correlation_that_identifies_the_execution(filters):
    text = f"do: [{{a: {{listen: {{to: {filters}}}}}}}]\nwebhook: "
    [(place, code)] = codes(text + ANYBODY)
    assert (place[-13:], code) == ("one.correlate", "CALLBACK_UNPROTECTED")
    for auth in ("", "auth: one_time_url", "auth: {github: {secret: s}}"):
        parse((HEAD + text + ANYBODY.replace("{approval: {auth: none}}", f"{{approval: {{{auth}}}}}")).encode())


def test_what_the_router_would_store_holds_no_secret():
    correlations = "{k: {from: .data, expect: '${ $secrets.key }'}}"
    filters = f"{{with: {{type: x, data: '${{ . == $secrets.key }}'}}, correlate: {correlations}}}"
    found = codes(f"use: {{secrets: [key]}}\ndo: [{{a: {{listen: {{to: {{one: {filters}}}}}}}}}]")
    assert found == [("do[0].a.listen.to.one.correlate.k.expect", "EXPRESSION_INVALID")]


def test_an_event_is_emitted_with_what_its_author_says_of_it():
    text = """\
do:
  - tell:
      emit:
        event:
          with:
            type: com.example.order.paid
            source: https://example.com/shop
            time: 2026-11-24T15:55:18.722+01:00
            subject: '${ .order }'
            priority: 5
            test: true
            data: {order: '${ .order }', note: null}
      metadata: {sink: 'https://events.example.com/in'}
  - least: {emit: {event: {with: {type: '${ .kind }'}}}}
"""
    document = parse((HEAD + text).encode())
    tell, least = (item.task for item in document.workflow.do)
    assert tell.emit.event.with_.model_extra == {"priority": 5, "test": True}
    assert tell.emit.event.with_.data == {"order": "${ .order }", "note": None}
    assert least.emit.event.with_.source is None
    assert load_definition(canonical(document.definition)) == document
