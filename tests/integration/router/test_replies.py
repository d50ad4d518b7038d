"""Replies: passed on once they are durable, kept, and fetched with a token."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest
from support.routers import flow, running_router
from support.runners import attached

from flowhook.client import channel
from flowhook.errors import FlowhookError, NotFoundError, PermissionDeniedError
from flowhook.events import ids
from flowhook.v1 import ingest_service_pb2 as ingest_pb
from flowhook.v1 import ingest_service_pb2_grpc
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.v1.envelope_pb2 import Event, Reply
from flowhook.wire import convert, status

TEA = Reply(status=418, body=b"tea")


class Caller:
    """Calls InvokeFlow and GetReply as an edge does."""

    def __init__(self, connection):
        self.stub = ingest_service_pb2_grpc.IngestServiceStub(connection)

    async def invoke(self, event_id, seconds=10.0, flow_id="hello"):
        request = ingest_pb.InvokeFlowRequest(event=event(event_id, flow_id), max_wait=convert.duration(seconds))
        return await self.stub.InvokeFlow(request)

    async def fetch(self, token):
        try:
            return await self.stub.GetReply(ingest_pb.GetReplyRequest(reply_token=token))
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from None


def event(event_id, flow_id="hello"):
    return Event(id=event_id, flow_id=flow_id, receive_time=convert.timestamp(1), body=b"{}")


def new_id():
    return ids.mint(ids.slot_of("hello"))


@pytest.fixture
async def caller(router, client):
    await client.flows.apply([flow("hello")])
    connection = channel.connect(router.target, router.token("edge"))
    yield Caller(connection)
    await connection.close(None)


async def test_a_reply_is_passed_on_before_the_flow_ends(router, client, caller):
    event_id = new_id()
    async with attached(router, credit=1) as runner:
        invoking = asyncio.create_task(caller.invoke(event_id))
        (assignment,) = await runner.assignments(1)
        await runner.checkpoint(assignment, 0, "/do/0/a#0", b"null", reply=TEA)
        response = await invoking
        assert (response.execution_id, response.reply, response.from_output) == (event_id, TEA, False)
        assert not (await client.executions.get(event_id)).execution.status.ended
        assert (await caller.invoke(event_id)).reply == TEA


@pytest.mark.parametrize("ending", [{"completed": pb.Completed(output=b"1")}, {"faulted": {"type": "about:blank"}}])
async def test_the_first_reply_stays_the_answer_whatever_comes_after_it(router, caller, ending):
    event_id = new_id()
    async with attached(router, credit=1) as runner:
        pending = await caller.invoke(event_id, 0.01)
        (assignment,) = await runner.assignments(1)
        await runner.checkpoint(assignment, 0, "/do/0/a#0", b"null", reply=TEA)
        await runner.checkpoint(assignment, 1, "/do/1/b#0", b"null", reply=Reply(status=200, body=b"coffee"))
        await runner.settle(pb.Outcome(lease=assignment.lease, **ending))
        assert (await caller.invoke(event_id)).reply == TEA
        assert (await caller.fetch(pending.pending.reply_token)).reply == TEA


async def test_a_reply_that_comes_with_the_outcome_is_passed_on(router, caller):
    async with attached(router, credit=1) as runner:
        invoking = asyncio.create_task(caller.invoke(new_id()))
        (assignment,) = await runner.assignments(1)
        checkpoint = pb.Checkpoint(lease=assignment.lease, entry=pb.JournalEntry(key="k", output=b"1"), reply=TEA)
        await runner.complete(assignment, b"1", checkpoints=[checkpoint])
        assert (await invoking).reply == TEA


async def test_the_output_is_the_answer_when_there_is_no_reply(router, caller):
    event_id = new_id()
    async with attached(router, credit=1) as runner:
        invoking = asyncio.create_task(caller.invoke(event_id))
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment, b'{"n":1}')
        for response in (await invoking, await caller.invoke(event_id)):
            assert (response.reply.status, response.reply.body, response.from_output) == (200, b'{"n":1}', True)


async def test_a_fault_and_a_cancellation_answer_at_once(router, client, caller):
    faulted, cancelled = new_id(), new_id()
    async with attached(router, credit=2) as runner:
        first = asyncio.create_task(caller.invoke(faulted))
        (assignment,) = await runner.assignments(1)
        second = asyncio.create_task(caller.invoke(cancelled))
        await runner.assignments(1)
        await runner.settle(pb.Outcome(lease=assignment.lease, faulted={"type": "about:blank", "title": "no"}))
        assert (await first).error.title == "no"
        await client.executions.cancel(cancelled)
        assert (await second).error.title == "The execution was cancelled"


async def test_a_token_fetches_the_answer_when_it_is_there(router, caller):
    event_id = new_id()
    async with attached(router, credit=1) as runner:
        token = (await caller.invoke(event_id, 0.01)).pending.reply_token
        fetched = await caller.fetch(token)
        assert (fetched.execution_id, fetched.flow_id, fetched.pending.reply_token) == (event_id, "hello", token)
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment, b"1")
        fetched = await caller.fetch(token)
        assert (fetched.reply.body, fetched.from_output) == (b"1", True)


async def test_nobody_attaches_to_an_execution_in_the_name_of_another_flow(router, caller):
    event_id = new_id()
    async with attached(router, credit=1) as runner:
        invoking = asyncio.create_task(caller.invoke(event_id))
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment)
        await invoking
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.invoke(event_id, flow_id="deleted")
    assert status.from_rpc_error(caught.value).reason == "FLOW_NOT_FOUND"


async def test_a_token_of_an_unknown_execution_or_a_made_up_one_finds_nothing(router, caller):
    event_id = new_id()
    token = (await caller.invoke(event_id, 0.01)).pending.reply_token
    for wrong in ("", event_id, f"{event_id}.{'A' * 43}", token.replace(event_id, new_id())):
        with pytest.raises(NotFoundError) as caught:
            await caller.fetch(wrong)
        assert caught.value.reason == "REPLY_NOT_FOUND"


async def test_only_who_may_send_may_fetch(router, caller):
    connection = channel.connect(router.target, router.token("runner"))
    with pytest.raises(FlowhookError) as caught:
        await Caller(connection).fetch("x")
    assert isinstance(caught.value, PermissionDeniedError)
    await connection.close(None)


async def test_a_reply_and_its_token_survive_a_restart(tmp_path):
    event_id = new_id()
    async with running_router(tmp_path) as router, router.client() as client, attached(router, credit=1) as runner:
        await client.flows.apply([flow("hello")])
        connection = channel.connect(router.target, router.token("edge"))
        token = (await Caller(connection).invoke(event_id, 0.01)).pending.reply_token
        (assignment,) = await runner.assignments(1)
        await runner.checkpoint(assignment, 0, "/do/0/a#0", b"null", reply=TEA)
        await runner.next("checkpointed")
        await connection.close(None)
    async with running_router(tmp_path) as router:
        connection = channel.connect(router.target, router.token("edge"))
        assert (await Caller(connection).fetch(token)).reply == TEA
        assert (await Caller(connection).invoke(event_id)).reply == TEA
        await connection.close(None)
