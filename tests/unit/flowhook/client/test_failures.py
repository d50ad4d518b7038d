"""What the blocking client does about failed calls: retry, or raise."""

from __future__ import annotations

import grpc
import pytest

from flowhook import errors
from flowhook.client import router_errors
from flowhook.v1 import execution_service_pb2 as execution_pb


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidError("what", reason="R"),
        errors.UnauthenticatedError("what", reason="R"),
        errors.PermissionDeniedError("what", reason="R"),
        errors.NotFoundError("what", reason="R"),
        errors.ConflictError("what", reason="R"),
        errors.OutOfRangeError("what", reason="R"),
        errors.ExhaustedError("what", reason="R", retry_after=7),
        errors.InternalError("what", reason="R"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_it_was_sent_and_is_not_retried(router, error):
    pending = router.start("flows.get", "hello")
    router.fail("FlowService.GetFlow", error)
    with pytest.raises(type(error), match="what") as raised:
        pending.result()
    assert (type(raised.value), raised.value.reason) == (type(error), "R")
    assert getattr(raised.value, "retry_after", None) == getattr(error, "retry_after", None)


def test_a_call_that_may_be_repeated_is_retried_while_the_router_is_unavailable(router):
    pending = router.start("executions.suspend", "evt_1")
    router.fail("ExecutionService.SuspendExecution", grpc.StatusCode.UNAVAILABLE)
    router.fail("ExecutionService.SuspendExecution", errors.UnavailableError("locked", reason="STORAGE_UNAVAILABLE"))
    found = execution_pb.Execution(id="evt_1")
    sent, metadata = router.answer("ExecutionService.SuspendExecution", execution=found)
    assert (sent.execution_id, metadata["authorization"]) == ("evt_1", "Bearer fhk_t")
    assert pending.result().id == "evt_1"


def test_a_replay_that_is_retried_has_the_idempotency_key_that_was_generated_for_it(router):
    pending = router.start("executions.replay", "evt_1")
    first = router.fail("ExecutionService.ReplayExecution", grpc.StatusCode.UNAVAILABLE)
    again, _ = router.answer("ExecutionService.ReplayExecution")
    assert len(first.request_id) == 32
    assert again == first
    pending.result()


@pytest.mark.parametrize(
    "call",
    [
        ("flows.delete", "FlowService.DeleteFlow"),
        ("secrets.delete", "SecretService.DeleteSecret"),
        ("executions.cancel", "ExecutionService.CancelExecution"),
        ("executions.resume", "ExecutionService.ResumeExecution"),
        ("executions.delete", "ExecutionService.DeleteExecution"),
    ],
)
@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (grpc.StatusCode.UNAVAILABLE, ("ROUTER_UNREACHABLE", "can't reach the router at router:1; is it running?")),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ("ROUTER_TIMEOUT", "the router at router:1 did not answer within 3600 s")),
    ],
)
def test_a_call_that_must_not_be_repeated_fails_at_once(router, call, code, outcome):
    method, rpc = call
    reason, message = outcome
    pending = router.start(method, "x")
    router.fail(rpc, code)
    with pytest.raises(errors.UnavailableError) as raised:
        pending.result()
    assert (raised.value.reason, raised.value.message) == (reason, message)


def test_a_router_that_stays_away_is_reported_when_the_time_for_retries_is_over(router, monkeypatch):
    monkeypatch.setattr(router_errors, "RETRY_SECONDS", -1.0)
    pending = router.start("flows.get", "hello")
    router.fail("FlowService.GetFlow", grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(errors.UnavailableError, match="can't reach the router at router:1; is it running"):
        pending.result()
