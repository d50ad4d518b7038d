"""The fuzzer finds each kind of misbehaviour of an edge, and generates the same requests again from a seed."""

import asyncio
import random
import ssl
from contextlib import asynccontextmanager

import pytest
from support.senders import SenderKeys

from flowhook import limits
from flowhook.payloads.parsing import parse
from fuzz.answers import read_answers
from fuzz.drafts import Drafts
from fuzz.edges import PLAIN, Edge
from fuzz.findings import Findings
from fuzz.flows import SEES_ALL, TASKS, webhooks
from fuzz.payloads import Payloads
from fuzz.plans import Plan, Plans
from fuzz.sender import Sender
from runner.evaluation.evaluator import Evaluator
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.json_codec import encode
from runner.interpreter.scope import ExpressionScope

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
TO_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n"
BROKEN = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
REQUEST = b"POST / HTTP/1.1\r\n\r\n"


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
def test_whole_responses_are_parsed(received, statuses, final, closed):
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


@asynccontextmanager
async def edge_that(answer):
    """Run a server in place of an edge, which sends these bytes after each connection's requests; None: it hangs."""
    released = asyncio.Event()

    async def serve(reader, writer):
        await reader.read()
        if answer is None:
            await released.wait()
        else:
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Edge(PLAIN, server.sockets[0].getsockname()[1])
        released.set()


async def send_two_requests(edge, folder, **options):
    found = Findings(7, folder / "saved")
    sender = Sender({PLAIN: edge}, None, None, found, context=ssl.create_default_context(), **options)
    await sender.send(Plan(PLAIN, "127.0.0.1", b"", [REQUEST + REQUEST], 2, whole=True))
    return found


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (OK + BROKEN, "a server error {500}"),
        (OK * 5, "more answers than requests"),
        (OK, "1 answers to 2 requests"),
        (OK + OK[:-1], "a response is cut off"),
    ],
)
async def test_an_edge_that_answers_wrongly_is_a_failure_whose_bytes_are_saved(tmp_path, answer, failure):
    async with edge_that(answer) as edge:
        found = await send_two_requests(edge, tmp_path)
    assert failure in found.failures[0]
    assert (tmp_path / "saved" / "7-0.sent").read_bytes() == REQUEST + REQUEST
    assert (tmp_path / "saved" / "7-0.received").read_bytes() == answer
    assert f"{len(found.failures)} failures, seed 7" in found.report(1.0)


async def test_an_edge_that_hangs_is_a_failure(tmp_path):
    async with edge_that(None) as edge:
        found = await send_two_requests(edge, tmp_path, hang_seconds=0.05)
    assert "neither answers nor ends" in found.failures[0]


@pytest.mark.parametrize(("answer", "statuses"), [(OK + OK, {200: 2}), (LAST, {400: 1})])
async def test_an_edge_that_answers_each_request_or_ends_the_connection_is_no_failure(tmp_path, answer, statuses):
    async with edge_that(answer) as edge:
        found = await send_two_requests(edge, tmp_path)
    assert (found.failures, found.statuses) == ([], statuses)


def test_a_seed_generates_the_same_connections_again_but_for_what_is_signed():
    keys = SenderKeys()

    def made(seed):
        source = random.Random()
        payloads = Payloads(source, pool=50)
        drafts = Drafts(webhooks(keys, "http://127.0.0.1:1"), keys, source, "127.0.0.1:80", payloads)
        plans = Plans(drafts, source, seed)
        connections = [plans.next() for _ in range(50)]
        return [(each.edge, each.source, each.preface, each.made, each.whole, each.reset) for each in connections]

    assert made(7) == made(7)
    assert made(7) != made(8)


@pytest.mark.parametrize("body", [b"x" * 1_500_000, b"\0" * 1_000_000, b"&".join([b"a=" + b"b" * 300] * 5000)])
def test_the_flow_that_sees_all_has_an_output_within_the_limit_whatever_the_body(body):
    """Its executions must not fault: the fuzzer would report the limit of an output as a failure."""
    template = Evaluator().template(TASKS[SEES_ALL][0]["keep"]["set"])
    kind = "application/x-www-form-urlencoded" if b"=" in body else "text/plain"
    view = {"body": parse(kind, body, (), limit=limits.MAX_BODY_BYTES).body, "attachments": [{"name": "a"}] * 30_000}
    output = template(view, ExpressionScope(ExecutionContext("evt_1", {}, None, 0, lambda: 0)))
    assert len(encode(output)) <= limits.MAX_RESULT_BYTES
