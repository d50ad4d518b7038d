"""Events that the blocking client submits, and what it makes of the answers."""

from __future__ import annotations

import grpc
import pytest

from flowhook import errors
from flowhook.client import ExecutionFailedError, ReplyPendingError
from flowhook.model import Reply
from flowhook.v1 import envelope_pb2, failure_pb2
from flowhook.v1 import ingest_service_pb2 as ingest_pb
from flowhook.wire import convert
from flowhook.wire.status import failure_to_proto

ACCEPTED = ingest_pb.IngestResult(accepted=ingest_pb.Accepted(execution_id="evt_1"))
WAITING = {"execution_id": "evt_1", "pending": ingest_pb.Pending()}


def test_an_event_is_sent_with_what_the_caller_said_of_it(router):
    pending = router.start("ingest", "hello", {"a": 1}, headers={"X-A": "1"}, dedupe_key="k", event_id="evt_2")
    sent, metadata = router.answer("IngestService.IngestEvents", results=[ACCEPTED])
    [event] = sent.events
    assert (event.id, event.flow_id, event.body, event.dedupe_key) == ("evt_2", "hello", b'{"a":1}', "k")
    assert list(event.headers) == [envelope_pb2.Header(name="x-a", value=b"1")]
    assert metadata["authorization"] == "Bearer fhk_t"
    assert pending.result() == "evt_1"


def test_an_event_that_is_sent_again_is_the_same(router):
    pending = router.start("ingest", "hello", {})
    first = router.fail("IngestService.IngestEvents", grpc.StatusCode.UNAVAILABLE)
    again, _ = router.answer("IngestService.IngestEvents", results=[ACCEPTED])
    assert first.events[0].id.startswith("evt_")
    assert again == first
    assert pending.result() == "evt_1"


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFoundError("no such flow", reason="FLOW_NOT_FOUND"),
        errors.ExhaustedError("too many", reason="BACKLOG_FULL", retry_after=7),
        errors.InvalidError("bad", reason="BODY_INVALID"),
    ],
    ids=lambda error: error.reason,
)
def test_an_event_that_is_refused_raises_the_reason(router, error):
    pending = router.start("ingest", "hello", {})
    refused = ingest_pb.IngestResult(rejected=failure_to_proto(error))
    router.answer("IngestService.IngestEvents", results=[refused])
    with pytest.raises(type(error)) as raised:
        pending.result()
    assert (raised.value.reason, raised.value.message) == (error.reason, error.message)
    assert raised.value.metadata == error.metadata


@pytest.mark.parametrize("count", [0, 2])
def test_another_number_of_results_than_events_is_an_internal_error(router, count):
    pending = router.start("ingest", "hello", {})
    router.answer("IngestService.IngestEvents", results=[ACCEPTED] * count)
    with pytest.raises(errors.InternalError, match=f"the router returned {count} results for one event"):
        pending.result()


def test_an_invocation_waits_for_the_same_event_until_there_is_a_reply(router, monkeypatch):
    monkeypatch.setattr("flowhook.client.sync.client.MAX_WAIT_SECONDS", 2.5)
    reply = Reply(201, (("x-a", b"1"),), b"b")
    pending = router.start("invoke", "hello", {}, timeout=3600)
    first, _ = router.answer("IngestService.InvokeFlow", **WAITING)
    second, _ = router.answer(
        "IngestService.InvokeFlow", reply=envelope_pb2.Reply.FromString(convert.reply_to_bytes(reply))
    )
    assert first == second
    assert convert.seconds(first.max_wait) == 2.5
    assert pending.result() == reply


def test_an_invocation_without_a_reply_in_time_names_the_execution(router):
    pending = router.start("invoke", "hello", {}, timeout=1e-9)
    router.answer("IngestService.InvokeFlow", **WAITING)
    with pytest.raises(ReplyPendingError, match="evt_1") as raised:
        pending.result()
    assert raised.value.execution_id == "evt_1"


def test_an_invocation_that_failed_raises_the_fault(router):
    pending = router.start("invoke", "hello", {})
    fault = failure_pb2.WorkflowError(type="about:x", status=422, title="Too many", detail="500")
    router.answer("IngestService.InvokeFlow", execution_id="evt_1", error=fault)
    with pytest.raises(ExecutionFailedError, match="execution evt_1 failed: Too many: 500") as raised:
        pending.result()
    assert (raised.value.execution_id, raised.value.error.status) == ("evt_1", 422)
