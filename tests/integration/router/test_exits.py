"""The end of a runner's process, as whoever watches it reports: nobody waits for the next process to attach."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from support.ends import ended
from support.patience import PATIENCE
from support.routers import flow, running_router
from support.runners import attached, runner_stub

from flowhook.model import Status
from flowhook.v1 import runner_service_pb2 as pb
from router.dispatch.runners import AttachedRunners

ERROR = {"type": "about:blank", "status": 500, "title": "no", "instance": "/do/0/a"}


@pytest.fixture
async def hello(client):
    await client.flows.apply([flow("hello")])


@pytest.fixture
async def guard(router):
    """What a process says that watches a runner's."""
    async with runner_stub(router) as stub:
        yield stub


def faulted(assignment):
    return pb.Outcome(lease=assignment.lease, faulted=ERROR)


def released(assignment, *, charged):
    return pb.Outcome(lease=assignment.lease, released=pb.Released(reason="RUNNER_DIED", charged=charged))


async def report(stub, evaluated=None, *, explained=True, runner_id="r1"):
    request = pb.ReportExitRequest(runner_id=runner_id, losses_explained=explained, evaluated=evaluated)
    await stub.ReportExit(request, timeout=PATIENCE)


async def test_a_verdict_ends_its_execution_and_the_others_are_assigned_again_uncharged(router, client, hello, guard):
    bad, good = [await client.ingest("hello", {"n": number}) for number in range(2)]
    async with attached(router, credit=2) as runner:
        culprit, neighbour = await runner.assignments(2)
    await report(guard, faulted(culprit))
    execution = (await client.executions.get(bad)).execution
    assert (execution.status, execution.attempts, execution.error.instance) == (Status.FAULTED, 1, "/do/0/a")
    async with attached(router, "r2", credit=2) as other:
        (again,) = await other.assignments(1)
        assert (again.event, again.attempt) == (neighbour.event, 1)
        await other.complete(again)
    assert (await client.executions.get(good)).execution.attempts == 1
    await report(guard, faulted(culprit))  # repeated, it changes nothing
    assert (await client.executions.get(bad)).execution.attempts == 1


async def test_a_verdict_ends_a_newer_lease_on_its_execution_too(router, client, hello, guard):
    execution_id = await client.ingest("hello", {})
    async with attached(router, "r1", credit=1) as runner:
        (assignment,) = await runner.assignments(1)
    async with attached(router, "r2", credit=1) as other:
        (again,) = await other.assignments(1)  # once r1 has been away for too long
        await report(guard, faulted(assignment))
        revocation = await other.next("revocation")
        assert (list(revocation.leases), revocation.reason) == ([again.lease], "LEASE_LOST")
    execution = (await client.executions.get(execution_id)).execution
    assert (execution.status, execution.attempts) == (Status.FAULTED, 1)


async def test_what_was_evaluated_at_a_death_comes_after_the_others_of_its_flow(router, client, hello, guard):
    for number in range(3):
        await client.ingest("hello", {"n": number})
    async with attached(router, credit=2) as runner:
        culprit, _ = await runner.assignments(2)
    await report(guard, released(culprit, charged=True))
    async with attached(router, "r2", credit=3) as other:
        again = await other.assignments(3)
        assert again[-1].event == culprit.event
        assert [each.attempt for each in again] == [1, 1, 2]


@pytest.mark.parametrize(("explained", "attempt"), [(True, 1), (False, 2)])
async def test_losses_that_nobody_explains_are_charged(router, client, guard, explained, attempt):
    await client.flows.apply([flow("hello")])
    await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        await runner.assignments(1)
    await report(guard, explained=explained)
    async with attached(router, "r2", credit=1) as other:
        (again,) = await other.assignments(1)
        assert again.attempt == attempt


async def test_what_a_process_had_sent_before_its_end_counts(router, client, hello, guard):
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.send(
            outcomes=pb.OutcomeBatch(outcomes=[pb.Outcome(lease=assignment.lease, completed=pb.Completed(output=b"1"))])
        )
        reporting = asyncio.create_task(report(guard))
        execution = await ended(client, execution_id)
        await reporting
    assert (execution.status, execution.attempts) == (Status.COMPLETED, 1)


async def test_a_verdict_counts_over_a_restart_of_the_router(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        execution_id = await client.ingest("hello", {})
        async with attached(router, credit=1) as runner:
            (assignment,) = await runner.assignments(1)
    async with running_router(tmp_path) as router, router.client() as client, runner_stub(router) as guard:
        await report(guard, faulted(assignment))
        execution = (await client.executions.get(execution_id)).execution
    assert (execution.status, execution.attempts) == (Status.FAULTED, 1)


async def test_a_report_that_the_next_process_overtook_leaves_its_leases_alone(
    router, client, hello, guard, monkeypatch
):
    looked, is_superseded = asyncio.Event(), AttachedRunners.is_superseded

    def note(runners, link):
        looked.set()
        return is_superseded(runners, link)

    async with attached(router):
        monkeypatch.setattr(AttachedRunners, "is_superseded", note)
        reporting = asyncio.create_task(report(guard, explained=False))
        await looked.wait()  # now it waits for the end of that stream
        await client.ingest("hello", {})
        async with attached(router, credit=1) as runner:
            (assignment,) = await runner.assignments(1)
            await reporting
            await runner.complete(assignment)


async def test_a_process_that_can_not_say_so_itself_is_vouched_for(tmp_path):
    async with (
        running_router(tmp_path, lease_seconds=1.0) as router,
        router.client() as client,
        runner_stub(router) as guard,
    ):
        await client.flows.apply([flow("hello")])
        await client.ingest("hello", {})
        async with attached(router, credit=1) as runner:
            (assignment,) = await runner.assignments(1)
            for _ in range(40):
                await guard.RenewLeases(pb.RenewLeasesRequest(runner_id="r1"))
                await asyncio.sleep(0.05)  # two leases in all, of which none is renewed by the runner
            await runner.complete(assignment)


@pytest.mark.parametrize(
    "request_",
    [
        pb.ReportExitRequest(),
        pb.ReportExitRequest(runner_id="x" * 64),
        pb.ReportExitRequest(runner_id="r1", evaluated=pb.Outcome(lease=b"x", completed=pb.Completed())),
    ],
)
async def test_a_report_that_makes_no_sense_is_refused(guard, request_):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await guard.ReportExit(request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
