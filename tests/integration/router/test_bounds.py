"""What the router keeps of a caller has a limit, and what a caller says beyond it harms nobody."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from support.ends import ended
from support.patience import PATIENCE
from support.routers import flow
from support.runners import attached

from flowhook.client import channel
from flowhook.events import ids
from flowhook.limits import KIB, MAX_ERROR_DETAIL_BYTES, MIB
from flowhook.v1 import execution_service_pb2 as executions
from flowhook.v1 import (
    execution_service_pb2_grpc,
    failure_pb2,
    flow_service_pb2_grpc,
    ingest_service_pb2_grpc,
    rejection_service_pb2_grpc,
    runner_service_pb2_grpc,
)
from flowhook.v1 import flow_service_pb2 as flows
from flowhook.v1 import ingest_service_pb2 as ingest
from flowhook.v1 import rejection_service_pb2 as rejections
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert, status
from router.services import runner as runner_service

UNKNOWN = b"\xfa\x3f\x80\x80\x40" + bytes(MIB)
"""A field that nobody knows, of 1 MiB."""


@asynccontextmanager
async def stub_of(router, role, kind):
    async with channel.connect(router.target, router.token(role)) as connection:
        yield kind(connection)


async def reason_of(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(anext(aiter(call)), PATIENCE)
    return status.from_rpc_error(caught.value).reason


@pytest.mark.parametrize(
    "hello",
    [
        pb.Hello(runner_id="r1", components=["x"] * 1001),
        pb.Hello(runner_id="r1", components=["x" * 256]),
        pb.Hello(runner_id="r1", held_leases=[b"x" * 65]),
        pb.Hello(runner_id="r1", held_leases=[b""] * 65537),
    ],
)
async def test_a_runner_that_says_too_much_at_first_is_sent_away(router, hello):
    async with stub_of(router, "runner", runner_service_pb2_grpc.RunnerServiceStub) as stub:
        call = stub.Attach(iter([pb.AttachRequest(hello=hello)]))
        assert await reason_of(call) == "ATTACH_PROTOCOL_VIOLATION"


async def test_no_more_runners_attach_than_there_may_be(router, monkeypatch):
    monkeypatch.setattr(runner_service, "MAX_RUNNERS", 1)
    async with attached(router, "r1"):
        async with stub_of(router, "runner", runner_service_pb2_grpc.RunnerServiceStub) as stub:
            call = stub.Attach(iter([pb.AttachRequest(hello=pb.Hello(runner_id="r2"))]))
            assert await reason_of(call) == "TOO_MANY_RUNNERS"
        async with attached(router, "r1"):  # again: it takes its own place
            pass


async def test_what_opens_a_stream_is_short(router):
    known = executions.WatchExecutionsRequest(flow_id="x" * 2 * KIB)
    async with stub_of(router, "admin", execution_service_pb2_grpc.ExecutionServiceStub) as stub:
        assert await reason_of(stub.WatchExecutions(known)) == "REQUEST_TOO_LARGE"
        unknown = executions.WatchExecutionsRequest.FromString(UNKNOWN)
        assert await reason_of(stub.WatchExecutions(unknown)) == "REQUEST_TOO_LARGE"
        assert await reason_of(stub.ReadBody(executions.ReadBodyRequest.FromString(UNKNOWN))) == "REQUEST_TOO_LARGE"
    async with stub_of(router, "admin", flow_service_pb2_grpc.FlowServiceStub) as stub:
        assert await reason_of(stub.WatchFlows(flows.WatchFlowsRequest.FromString(UNKNOWN))) == "REQUEST_TOO_LARGE"
    async with stub_of(router, "runner", runner_service_pb2_grpc.RunnerServiceStub) as stub:
        unknown = pb.ReadAttachmentRequest.FromString(UNKNOWN)
        assert await reason_of(stub.ReadAttachment(unknown)) == "REQUEST_TOO_LARGE"


async def test_an_upload_that_says_too_much_at_first_is_refused(router, client):
    await client.flows.apply([flow("hello")])
    start = ingest.UploadBodyRequest(start=ingest.UploadStart.FromString(UNKNOWN))
    start.start.flow_id = "hello"
    async with stub_of(router, "edge", ingest_service_pb2_grpc.IngestServiceStub) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.UploadBody(iter([start]))
    assert status.from_rpc_error(caught.value).reason == "REQUEST_TOO_LARGE"


async def test_the_texts_of_a_fault_are_retained_up_to_a_limit(router, client):
    await client.flows.apply([flow("hello")])
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        texts = dict.fromkeys(("type", "title", "instance", "detail"), "x" * MIB)
        fault = failure_pb2.WorkflowError(status=500, **texts)
        await runner.settle(pb.Outcome(lease=assignment.lease, faulted=fault))
    error = (await ended(client, execution_id)).error
    assert {len(text) for text in (error.type, error.title, error.instance, error.detail)} == {MAX_ERROR_DETAIL_BYTES}


def rejection(**fields):
    named = {"id": f"rej_{ids.mint(0).removeprefix(ids.PREFIX)}", "flow_id": "hello", "time": convert.timestamp(1)}
    return rejections.Rejection(**named | fields)


async def test_every_field_of_a_refused_request_is_retained_up_to_a_limit(router, client):
    long = "x" * 4 * KIB
    texts = ("callback", "reason", "detail", "address", "method", "path", "query")
    sent = rejection(**dict.fromkeys(texts, long), body=bytes(MIB))
    sent.MergeFromString(UNKNOWN)
    sent.headers.add(name="x" * MIB)
    async with stub_of(router, "edge", rejection_service_pb2_grpc.RejectionServiceStub) as stub:
        await stub.ReportRejections(rejections.ReportRejectionsRequest(rejections=[sent, rejection()]))
    async with stub_of(router, "admin", rejection_service_pb2_grpc.RejectionServiceStub) as stub:
        found = (await stub.GetRejection(rejections.GetRejectionRequest(rejection_id=sent.id))).rejection
        listed = (await stub.ListRejections(rejections.ListRejectionsRequest())).rejections
    assert {name: len(getattr(found, name)) for name in texts} == {
        "callback": 127, "reason": 63, "detail": 1024, "address": 64, "method": 32, "path": 2048, "query": 2048,
    }  # fmt: skip
    assert (len(found.headers), len(found.body), len(listed)) == (0, 64 * KIB, 2)
    assert found.ByteSize() < 128 * KIB


async def test_a_refused_request_of_the_future_makes_no_others_forgotten(router):
    late = rejection()
    late.time.seconds = 1 << 60
    async with stub_of(router, "edge", rejection_service_pb2_grpc.RejectionServiceStub) as stub:
        for each in (rejection(time=convert.timestamp(ids.time_ms_of(ids.mint(0)))), late):
            await stub.ReportRejections(rejections.ReportRejectionsRequest(rejections=[each]))
    async with stub_of(router, "admin", rejection_service_pb2_grpc.RejectionServiceStub) as stub:
        assert len((await stub.ListRejections(rejections.ListRejectionsRequest())).rejections) == 2
