"""`flowhook test`: mocks of calls, events and callbacks, replies, and what is told when something is missing."""

from __future__ import annotations

import json

import pytest
from support.cases import cases
from support.commands import flowhook

HEAD = "document: {dsl: 1.0.3, namespace: default, name: orders, version: 1.0.0}\n"
SHIP = """\
webhook: {auth: none}
do:
  - ship:
      call: http
      with:
        method: post
        endpoint: https://api.example.com/shipments
        query: {dry: "1"}
        body: {order: "${ .body.order }"}
  - keep: {set: {shipment: "${ .id }"}}
"""
APPROVAL = """\
webhook: {auth: none, callbacks: {decision: {auth: one_time_url}}}
do:
  - ask: {call: reply, with: {status: 202, headers: {X-Order: "${ .body.order }"}, body: {order: "${ .body.order }"}}}
  - decide: {listen: {to: {one: {with: {type: decision}}}}}
  - paid: {listen: {to: {one: {with: {type: com.example.paid}}}}, output: {as: "${ .[0] }"}}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return the problems of a test of a flow, as a function of both."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests" / "orders").mkdir(parents=True)

    def run(flow, test, **environment):
        (tmp_path / "orders.yaml").write_text(HEAD + flow)
        (tmp_path / "tests" / "orders" / "one.json").write_text(json.dumps({"body": {"order": "A-1"}, **test}))
        done = flowhook("test", "--json", **environment)
        (row,) = done.rows
        assert done.code == (0 if row["passed"] else 1)
        return row["problems"]

    return run


SHIPPED = {"call": "POST https://api.example.com/shipments", "sent": {"order": "A-1"}, "body": {"id": "S-1"}}


@cases(
    "calls",
    [
        [SHIPPED],
        [{**SHIPPED, "call": "POST https://api.example.com/shipments?dry=1", "status": 201}],
        [{**SHIPPED, "call": "* https://*/shipments"}],
        [{"task": "ship", "status": 503}, {"task": "/do/0/ship", "body": {"id": "S-1"}}],
        [{"task": "ship", "status": 429, "headers": {"Retry-After": "7"}}, {"task": "ship", "output": {"id": "S-1"}}],
        [{"task": "ship", "error": {"type": "timeout"}}, SHIPPED],
        [{"call": "POST https://api.example.com/*", "error": {}}, SHIPPED],
    ],
)
def test_a_call_is_answered_by_url_or_task_and_one_that_failed_is_tried_again(run, calls):
    assert run(SHIP, {"calls": calls, "output": {"shipment": "S-1"}}) == []


def test_a_status_is_the_error_that_a_real_one_would_be(run):
    calls = [{"task": "ship", "status": 404, "body": {"error": "no such order"}}]
    response = {"status": 404, "url": "https://api.example.com/shipments", "body": '{"error":"no such order"}'}
    problems = run(SHIP, {"calls": calls, "error": {"status": 404, "instance": "/do/0/ship", "response": response}})
    assert [problem.partition(":")[0] for problem in problems] == ["/error/response/body", "/error/response/size"]


def test_a_call_that_no_mock_answers_fails_the_test_whatever_it_expects_and_says_what_to_write(run):
    caught = SHIP.partition("do:\n")[0] + "do:\n  - try: {try: [{ship: {call: http, with: {method: get, endpoint: "
    caught += "'https://api.example.com/x?key=1'}}}], catch: {do: [{no: {set: {id: 0}}}]}}\n"
    for calls in ([], [{"task": "other"}], [{"call": "POST https://api.example.com/x"}]):
        (problem,) = run(caught, {"calls": calls, "output": {"id": 0}})
        assert problem == (
            "no mock answers GET https://api.example.com/x, which /do/0/try/try/0/ship makes: "
            'add {"task": "ship", "status": 200, "body": {}} to "calls"'
        )


@cases(
    ("task", "mock", "name"),
    [
        (
            "{call: email.send, with: {from: b@example.com, to: a@example.com, subject: Hi, text: Hi}}",
            {"call": "email.send"},
            "email.send",
        ),
        (
            "{call: openapi, with: {document: {endpoint: 'https://a.example/api.json'}, operationId: getPet}}",
            {"call": "openapi getPet"},
            "GET https://a.example/api.json",
        ),
        (
            "{run: {workflow: {namespace: default, name: child, version: latest}}}",
            {"call": "run.workflow child"},
            "run.workflow child",
        ),
        ("{run: {script: {language: python, code: 'print(1)'}}}", {"task": "it"}, "run.script"),
    ],
)
def test_what_is_no_http_call_is_mocked_by_its_function_and_operation_or_its_task(run, task, mock, name):
    flow = f"webhook: {{auth: none}}\ndo:\n  - it: {task}\n"
    assert run(flow, {"calls": [{**mock, "output": {"id": 7}}], "output": {"id": 7}}) == []
    assert run(flow, {"calls": [{**mock, "error": {"status": 409}}], "error": {"status": 409}}) == []
    (problem,) = run(flow, {"calls": [], "output": {"id": 7}})
    assert problem.startswith(f"no mock answers {name}, which /do/0/it makes: ")


def test_what_is_sent_otherwise_and_an_answer_that_is_not_used_are_told(run):
    calls = [{**SHIPPED, "sent": {"order": "A-2", "gift": True}}, {"task": "bill", "output": {}}]
    assert run(SHIP, {"calls": calls, "output": {"shipment": "S-1"}}) == [
        '/calls/0/sent/order: expected "A-2", but it is "A-1"',
        "/calls/0/sent/gift: expected true, but it is not there",
        "/calls/1: bill was not called",
    ]


def test_the_value_of_a_secret_is_not_shown(run):
    flow = SHIP.replace('{order: "${ .body.order }"}', '{key: "${ $secrets.token }"}') + "use: {secrets: [token]}\n"
    test = {"calls": [{**SHIPPED, "sent": {"key": "…"}}], "output": {"shipment": "S-1"}}
    assert run(flow, {**test, "secrets": {"token": "t0ps3cret-token"}}) == []
    assert run(flow, test, FLOWHOOK_SECRET_TOKEN="t0ps3cret-token") == []
    (problem,) = run(flow, {**test, "calls": [{"task": "other"}]}, FLOWHOOK_SECRET_TOKEN="t0ps3cret-token")
    assert problem.startswith("no mock answers POST https://api.example.com, which /do/0/ship makes: ")


DECISION = {"callback": "decision", "body": {"approved": True}}
PAID = {"type": "com.example.paid", "data": {"amount": 7}}


def test_callbacks_and_events_come_in_their_order_and_replies_are_compared(run):
    reply = {"status": 202, "headers": {"X-Order": "A-1"}, "body": {"order": "A-1"}}
    assert run(APPROVAL, {"events": [DECISION, PAID], "reply": reply, "output": {"amount": 7}}) == []
    assert run(APPROVAL, {"events": [DECISION, PAID], "reply": {"status": 200, "headers": {"X-No": ""}}}) == [
        "/reply/status: expected 200, but it is 202",
        '/reply/headers/X-No: expected "", but it is not there',
    ]
    assert run(SHIP, {"calls": [SHIPPED], "reply": {"status": 200}}) == [
        '/reply: expected {"status":200}, but it is not there'
    ]


def test_a_test_may_end_where_the_flow_waits(run):
    assert run(APPROVAL, {"waiting": "decide"}) == []
    assert run(APPROVAL, {"events": [DECISION], "waiting": "/do/2/paid"}) == []
    assert run(APPROVAL, {"events": [DECISION], "waiting": "decide"}) == [
        '/waiting: expected "decide", but it is "/do/2/paid"'
    ]
    timed = APPROVAL + "timeout: {after: PT1H}\n"
    assert run(timed, {"waiting": "decide"}) == []
    assert run(timed, {"error": {"status": 408}}) == []


def test_an_event_that_the_flow_does_not_receive_fails_the_test(run):
    assert run(APPROVAL, {"events": [PAID, DECISION, DECISION], "output": {"amount": 7}}) == [
        "/events/2: the flow did not receive it"
    ]
    (problem,) = run(APPROVAL, {"events": [DECISION], "error": {"detail": ""}})
    assert "in a test by `events`" in problem


@cases(
    ("test", "problem"),
    [
        ({"outputs": {}}, "outputs: unknown key 'outputs', did you mean 'output'?"),
        ({"output": 1, "text": "x"}, "set either body or text"),
        ({"output": 1, "calls": [{}]}, "calls[0]: set call, task or both"),
        ({"output": 1, "calls": [{"task": "a", "output": 1, "status": 200}]}, "calls[0]: an answer is either output"),
        ({"output": 1, "calls": [{"task": "a", "error": {"type": "typo"}}]}, "calls[0].error.type: "),
        ({"output": 1, "calls": [{"task": "a", "status": 99}]}, "calls[0].status: expected at least 200"),
        ({"output": 1, "events": [{"callback": "no", "body": 1}]}, "events[0]: orders has no callback no; there are "),
        ({"output": 1, "events": [{"callback": "decision"}]}, "events[0]: set either body or text"),
        ({"output": 1, "events": [{"data": 1}]}, "events[0]: "),
        ({"output": 1, "body": 1, "content_type": "application/xml"}, "input is not application/xml"),
    ],
)
def test_a_mistake_in_a_test_says_where_it_is(run, test, problem):
    found = run(APPROVAL, test)[0]
    assert found.startswith(f"not a test: {problem}"), found
