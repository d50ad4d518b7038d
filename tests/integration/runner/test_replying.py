"""Flows that answer, in a whole runner."""

from __future__ import annotations

import orjson

from flowhook.model import Event, Reply
from flowhook.process.settings import RunnerSettings
from flowhook.v1 import envelope_pb2
from flowhook.wire import convert
from runner import ipc
from runner.ipc import RunEnded
from runner.local_run import run_document

ANSWER = {
    "answer": {
        "call": "reply",
        "with": {"status": 201, "headers": {"X-Id": "${ .id }"}, "body": "${ {order: .body.order} }"},
    }
}
AFTER = {"after": {"set": {"order": "${ .body.order }"}}}


async def test_a_reply_goes_with_its_journal_entry_and_hands_on_its_input(router, served):
    router.define("orders", [ANSWER, AFTER])
    stream = await router.attached()
    outcome = await router.run(stream, "orders", {"order": "A-1"})
    assert orjson.loads(outcome.completed.output) == {"order": "A-1"}
    (checkpoint,) = stream.checkpoints
    assert checkpoint.entry.key == "/do/0/answer#0"
    assert (checkpoint.reply.status, checkpoint.reply.body) == (201, b'{"order":"A-1"}')
    assert [field.name for field in checkpoint.reply.headers] == ["content-type", "x-id"]


async def test_what_follows_a_reply_waits_until_that_is_durable(router, served):
    router.acknowledges = False
    router.define("orders", [ANSWER, {"again": ANSWER["answer"]}])
    stream = await router.attached()
    router.assign(stream, assignment := router.assignment("orders", {"order": "A-1"}))
    await router.until(lambda: stream.checkpoints)
    router.acknowledge(stream, stream.checkpoints)
    await router.until(lambda: len(stream.checkpoints) == 2)
    router.acknowledge(stream, stream.checkpoints[1:])
    await router.outcome(assignment.lease)
    assert [item.entry.key for item in stream.checkpoints] == ["/do/0/answer#0", "/do/1/again#0"]


async def test_a_reply_that_stands_in_the_journal_is_not_given_again(router, served):
    router.define("orders", [ANSWER, AFTER])
    stream = await router.attached()
    await router.run(stream, "orders", {"order": "A-1"})
    (checkpoint,) = stream.checkpoints
    assignment = router.assignment("orders", {"order": "A-1"}, attempt=2)
    assignment.journal.append(checkpoint.entry)
    router.assign(stream, assignment)
    outcome = await router.outcome(assignment.lease)
    assert orjson.loads(outcome.completed.output) == {"order": "A-1"}
    assert len(stream.checkpoints) == 1


async def test_a_reply_that_is_none_is_a_configuration_error(router, served):
    router.define("orders", [{"answer": {"call": "reply", "with": {"headers": {"X-Id": "${ .body.order }"}}}}])
    stream = await router.attached()
    outcome = await router.run(stream, "orders", {"order": "A\r\nSet-Cookie: x"})
    assert (outcome.faulted.type.rpartition("/")[2], outcome.faulted.instance) == ("configuration", "/do/0/answer")
    assert stream.checkpoints == []


async def test_a_reply_that_is_not_acknowledged_is_sent_again_on_the_next_stream(router, served):
    router.acknowledges = router.settles = False
    router.define("orders", [ANSWER])
    stream = await router.attached()
    router.assign(stream, router.assignment("orders", {"order": "A-1"}))
    await router.until(lambda: stream.checkpoints)
    stream.close()
    again = await router.attached(2)
    await router.until(lambda: again.checkpoints)
    assert isinstance(again.checkpoints[0].reply, envelope_pb2.Reply)
    assert again.checkpoints[0] == stream.checkpoints[0]


async def test_a_document_that_runs_alone_reports_its_reply():
    said = []
    definition = orjson.dumps({"document": {}, "webhook": {}, "do": [ANSWER, AFTER]})
    event = Event("evt_1", "f", 1, None, "", "POST", "/hook/f", "", "application/json", (), b'{"order": "A-1"}')
    order = ipc.RunDocument(RunnerSettings(), definition, convert.event_to_bytes(event), {})
    result = await run_document(order, said.append)
    assert result == RunEnded(b'{"order":"A-1"}', None)
    headers = (("content-type", b"application/json"), ("x-id", b"evt_1"))
    assert said == [ipc.ReplySent(Reply(201, headers, b'{"order":"A-1"}'))]
