"""What the fuzzer takes for whole responses, and that a seed makes the same requests again."""

import random

import pytest

from bench.fuzz import payloads
from bench.fuzz.answers import read_answers
from bench.fuzz.drafts import Drafts
from bench.fuzz.findings import Findings
from bench.fuzz.flows import SEES_ALL, TASKS, webhooks
from bench.fuzz.keys import Keys
from bench.fuzz.plans import Plans
from flowhook import limits
from flowhook.payloads import parse
from runner.evaluator import Evaluator
from runner.interpreter.json_codec import encode
from runner.interpreter.scope import ExecutionContext, ExpressionScope

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
TO_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n"


@pytest.mark.parametrize(
    ("received", "statuses", "final", "closed"),
    [
        (b"", [], 0, False),
        (OK + OK, [200, 200], 2, False),
        (INTERIM + OK + LAST, [100, 200, 400], 2, True),
        (LAST + OK, [400, 200], 2, False),
        (TO_HEAD + OK, [200, 200], 2, False),
        (OK + TO_HEAD, [200, 200], 2, False),
    ],
)
def test_whole_responses_are_told_apart(received, statuses, final, closed):
    answers = read_answers(received)
    assert (answers.statuses, answers.final, answers.closed) == (statuses, final, closed)


@pytest.mark.parametrize(
    "received",
    [
        b"x",
        OK[:-1],
        OK + b"!",
        OK[:20],
        b"HTTP/1.1 700 X\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-\x00: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
    ],
)
def test_anything_else_is_a_failure(received):
    with pytest.raises(ValueError, match="response"):
        read_answers(received)


def test_a_seed_makes_the_same_connections_again_but_for_what_is_signed(monkeypatch):
    monkeypatch.setattr(payloads, "POOL", 50)  # making 3000 bodies takes seconds
    keys = Keys()

    def made(seed):
        source = random.Random()
        drafts = Drafts(webhooks(keys, "http://127.0.0.1:1"), keys, source, "127.0.0.1:80")
        plans = Plans(drafts, source, seed)
        connections = [plans.next() for _ in range(50)]
        return [(each.edge, each.source, each.preface, each.made, each.whole, each.reset) for each in connections]

    assert made(7) == made(7)
    assert made(7) != made(8)


def test_what_led_to_a_failure_is_saved(tmp_path):
    found = Findings(7, tmp_path / "saved")
    found.fail("a server error", b"request", b"response")
    assert (tmp_path / "saved" / "7-0.sent").read_bytes() == b"request"
    assert (tmp_path / "saved" / "7-0.received").read_bytes() == b"response"
    assert "1 failures, seed 7" in found.report(1.0)


@pytest.mark.parametrize("body", [b"x" * 1_500_000, b"\0" * 1_000_000, b"&".join([b"a=" + b"b" * 300] * 5000)])
def test_the_flow_that_sees_all_has_an_output_that_may_be_whatever_the_body(body):
    """Its executions must not fault: else the fuzzer would take the limit of an output for a failure."""
    template = Evaluator().template(TASKS[SEES_ALL][0]["keep"]["set"])
    kind = "application/x-www-form-urlencoded" if b"=" in body else "text/plain"
    view = {"body": parse(kind, body, (), limit=limits.MAX_BODY_BYTES).body, "attachments": [{"name": "a"}] * 30_000}
    output = template(view, ExpressionScope(ExecutionContext("evt_1", {}, None, 0, lambda: 0)))
    assert len(encode(output)) <= limits.MAX_RESULT_BYTES
