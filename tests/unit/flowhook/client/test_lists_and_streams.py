"""Lists that the blocking client reads page by page, and streams."""

from __future__ import annotations

import grpc
import pytest

from flowhook.client import ExecutionChange
from flowhook.errors import UnavailableError
from flowhook.model import Execution, FlowRevision, Status
from flowhook.v1 import execution_service_pb2 as execution_pb
from flowhook.v1 import flow_service_pb2 as flow_pb
from flowhook.v1 import rejection_service_pb2 as rejection_pb
from flowhook.wire import convert
from flowhook.wire.mapping import to_proto

EXECUTION = Execution("evt_1", "hello", 3, Status.FAULTED, 1, 0)


def executions(*ids):
    return [execution_pb.Execution(id=each) for each in ids]


def ids(pending):
    return [each.id for each in pending.result()]


def test_a_list_reads_page_after_page_up_to_its_limit(router):
    pending = router.start("executions.list", flow_id="hello", statuses=[Status.FAULTED], limit=3, unresolved=True)
    first, _ = router.answer(
        "ExecutionService.ListExecutions", executions=executions("a", "b"), next_page_token="second"
    )
    second, _ = router.answer("ExecutionService.ListExecutions", executions=executions("c"), next_page_token="third")
    wanted = execution_pb.ExecutionFilter(
        flow_id="hello", statuses=[execution_pb.Execution.STATUS_FAULTED], unresolved=True
    )
    assert first == execution_pb.ListExecutionsRequest(page_size=3, filter=wanted)
    assert second == execution_pb.ListExecutionsRequest(page_size=1, page_token="second", filter=wanted)
    assert ids(pending) == ["a", "b", "c"]


def test_a_list_without_a_limit_ends_with_the_last_page(router):
    pending = router.start("flows.list")
    first, _ = router.answer("FlowService.ListFlows", flows=[flow_pb.Flow(id="a")], next_page_token="second")
    second, _ = router.answer("FlowService.ListFlows", flows=[flow_pb.Flow(id="b")])
    assert first == flow_pb.ListFlowsRequest(page_size=500)
    assert second == flow_pb.ListFlowsRequest(page_size=500, page_token="second")
    assert ids(pending) == ["a", "b"]


def test_revisions_of_a_flow_are_listed(router):
    pending = router.start("flows.revisions", "hello", limit=3)
    revision = flow_pb.FlowRevision(revision=2, version="1.0.0", update_time=convert.timestamp(5))
    sent, _ = router.answer("FlowService.ListRevisions", revisions=[revision])
    assert sent == flow_pb.ListRevisionsRequest(flow_id="hello", page_size=3)
    assert pending.result() == [FlowRevision(2, "1.0.0", 5)]


def test_a_list_of_nothing_is_not_requested(router):
    assert list(router.client.executions.list(limit=0)) == []


def test_refused_requests_are_listed(router):
    pending = router.start("rejections.list", flow_id="hello", limit=1)
    sent, _ = router.answer(
        "RejectionService.ListRejections", rejections=[rejection_pb.Rejection(id="r1")], next_page_token="second"
    )
    assert sent == rejection_pb.ListRejectionsRequest(flow_id="hello", page_size=1)
    assert ids(pending) == ["r1"]


def test_a_body_arrives_in_chunks(router):
    pending = router.start("executions.body", "evt_1")
    sent, metadata, call = router.stream("ExecutionService.ReadBody")
    for chunk in (b"one", b"two"):
        call.send_response(execution_pb.ReadBodyResponse(chunk=chunk))
    call.terminate((), grpc.StatusCode.OK, "")
    assert (sent.execution_id, metadata["authorization"]) == ("evt_1", "Bearer fhk_t")
    assert pending.result() == [b"one", b"two"]


def test_a_watch_yields_none_before_changes_and_is_cancelled_when_it_is_closed(router):
    changes = router.client.executions.watch(flow_id="hello")
    pending = router.run(lambda: [next(changes), next(changes)])
    sent, _, call = router.stream("ExecutionService.WatchExecutions")
    call.send_response(execution_pb.WatchExecutionsResponse())
    call.send_response(
        execution_pb.WatchExecutionsResponse(execution=to_proto(EXECUTION, execution_pb.Execution), missed=2)
    )
    assert sent.flow_id == "hello"
    assert pending.result() == [None, ExecutionChange(EXECUTION, 2)]
    changes.close()
    call.cancelled()


def test_a_watch_that_breaks_off_raises(router):
    pending = router.start("executions.watch")
    _, _, call = router.stream("ExecutionService.WatchExecutions")
    call.terminate((), grpc.StatusCode.UNAVAILABLE, "Socket closed")
    with pytest.raises(UnavailableError, match="can't reach the router at router:1: it closed the connection"):
        pending.result()
