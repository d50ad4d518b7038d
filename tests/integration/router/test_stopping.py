"""Stopping under load: what was acknowledged is there, what runners have in hand stays theirs."""

from __future__ import annotations

import asyncio

import grpc
from support.patience import PATIENCE
from support.routers import flow, running_router
from support.runners import attached
from support.shards import running_host

from flowhook.errors import FlowhookError
from flowhook.model import Status
from flowhook.v1 import runner_service_pb2 as pb
from router import session
from router.dispatch import assignment as assignment_loader
from router.services.runner import RunnerService


async def end_of(runner):
    """Wait for the end of a runner's stream and return its code."""
    try:
        while await runner.call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_everything_acknowledged_before_a_stop_under_load_is_there_after_it(tmp_path):
    acknowledged = []

    async def send(client):
        while True:
            acknowledged.append(await client.ingest("hello", {}))

    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        senders = [asyncio.create_task(send(client)) for _ in range(20)]
        while len(acknowledged) < 200:
            await asyncio.sleep(0.01)
        router.lifecycle.stop.set()
        ends = await asyncio.gather(*senders, return_exceptions=True)
    assert all(isinstance(end, FlowhookError) for end in ends)
    async with running_router(tmp_path) as router, router.client() as client:
        found = {execution.id async for execution in client.executions.list()}
    assert found.issuperset(acknowledged)


async def test_a_stop_waits_for_what_runners_report_and_hands_out_nothing_more(tmp_path):
    async with running_router(tmp_path, drain_seconds=3600.0) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        first = await client.ingest("hello", {})
        async with attached(router, credit=2) as runner:
            (assignment,) = await runner.assignments(1)
            router.lifecycle.stop.set()
            await runner.next("drain")
            second = await client.ingest("hello", {})
            await runner.complete(assignment)
            assert await end_of(runner) is grpc.StatusCode.UNAVAILABLE
    async with running_router(tmp_path) as router, router.client() as client:
        statuses = {execution.id: execution.status async for execution in client.executions.list()}
    assert statuses == {first: Status.COMPLETED, second: Status.PENDING}


async def test_a_stop_does_not_wait_for_runners_that_have_nothing_in_hand(tmp_path):
    async with running_router(tmp_path, drain_seconds=3600.0) as router, attached(router, credit=10) as runner:
        router.lifecycle.stop.set()
        async with asyncio.timeout(PATIENCE):
            await runner.next("drain")
            assert await end_of(runner) is grpc.StatusCode.UNAVAILABLE


class DeafCall:
    """The call of a runner that reads its welcome and no more."""

    def __init__(self):
        self.stuck = asyncio.Event()
        self._welcomed = False

    async def requests(self):
        yield pb.AttachRequest(hello=pb.Hello(runner_id="deaf"))
        yield pb.AttachRequest(credit=pb.Credit(assignments=3))
        await asyncio.Event().wait()

    async def write(self, _message):
        if self._welcomed:
            self.stuck.set()
            await asyncio.Event().wait()
        self._welcomed = True


async def test_a_call_that_is_cancelled_leaves_nothing_that_waits_for_its_runner_to_read(tmp_path, monkeypatch):
    """Or a router would keep what was meant for a dead runner, and never stop."""
    monkeypatch.setattr(session, "MAX_UNSENT_BYTES", 1)
    monkeypatch.setattr(assignment_loader, "EXECUTIONS_PER_READ", 1)
    async with asyncio.timeout(PATIENCE), running_host(tmp_path) as shard:
        await shard.append("a", b"1", b"2", b"3")
        shard.forget_payloads()
        service = RunnerService(
            runtime=shard.host,
            lease_seconds=6.0,
            admission=None,
            publisher=None,
            starter=None,
            body_sender=None,
        )
        call = DeafCall()
        attaching = asyncio.create_task(service.Attach(call.requests(), call))
        await call.stuck.wait()
        attaching.cancel()
        await asyncio.wait([attaching])
