"""The Attach stream against a real router: leases, journals, losses, restarts."""

from __future__ import annotations

import grpc
import pytest
from support.ends import ended
from support.routers import flow, running_router
from support.runners import attached

from flowhook.client import channel
from flowhook.errors import ConflictError
from flowhook.model import Status
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.v1 import runner_service_pb2_grpc
from router import session


@pytest.fixture
async def hello(client):
    await client.flows.apply([flow("hello")])


async def test_an_outcome_is_stored_with_its_journal(router, client, hello):
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.checkpoint(assignment, 0, "/do/0/a#0", b"1")
        acknowledged = await runner.next("checkpointed")
        assert acknowledged.checkpoints[0].index == 0
        entry = pb.JournalEntry(key="/do/1/b#0", output=b"2")
        last = pb.Checkpoint(lease=assignment.lease, index=1, entry=entry)
        await runner.complete(assignment, b'{"x":1}', checkpoints=[last])
    detail = await client.executions.get(execution_id)
    assert detail.execution.status is Status.COMPLETED
    assert detail.output == b'{"x":1}'
    assert [(task.key, task.output) for task in detail.journal] == [("/do/0/a#0", b"1"), ("/do/1/b#0", b"2")]


async def test_the_next_attempt_gets_the_journal_of_the_one_before(router, client, hello):
    await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.checkpoint(assignment, 0, "/do/0/a#0", b"1")
        await runner.next("checkpointed")
    async with attached(router, credit=1, explained=False) as runner:
        (again,) = await runner.assignments(1)
        assert (again.attempt, again.event) == (2, assignment.event)
        assert [(entry.key, entry.output) for entry in again.journal] == [("/do/0/a#0", b"1")]
        await runner.complete(again)


async def test_a_runner_that_reconnects_keeps_its_lease(router, client, hello):
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
    async with attached(router, held=[assignment.lease]) as runner:
        assert list(runner.welcome.retained_leases) == [assignment.lease]
        await runner.complete(assignment)
    execution = (await client.executions.get(execution_id)).execution
    assert (execution.status, execution.attempts) == (Status.COMPLETED, 1)


async def test_a_renewal_is_answered_with_its_stamp(router):
    async with attached(router) as runner:
        await runner.send(renewal=pb.Renewal(stamp=7))
        assert (await runner.next("renewed")).stamp == 7


async def test_a_lost_lease_is_assigned_to_another_and_the_late_outcome_is_revoked(router, client, hello):
    await client.ingest("hello", {})
    async with attached(router, "r1", credit=1) as runner:
        (assignment,) = await runner.assignments(1)
    async with attached(router, "r2", credit=1) as other:
        (again,) = await other.assignments(1)
        async with attached(router, "r1", held=[assignment.lease]) as runner:
            assert list(runner.welcome.retained_leases) == []
            await runner.send(
                outcomes=pb.OutcomeBatch(outcomes=[pb.Outcome(lease=assignment.lease, completed=pb.Completed())])
            )
            revocation = await runner.next("revocation")
            assert (list(revocation.leases), revocation.reason) == ([assignment.lease], "LEASE_LOST")
        await other.complete(again)


async def test_a_runner_keeps_its_lease_over_a_restart_of_the_router(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        execution_id = await client.ingest("hello", {})
        async with attached(router, credit=1) as runner:
            (assignment,) = await runner.assignments(1)
    async with running_router(tmp_path) as router, router.client() as client:
        async with attached(router, held=[assignment.lease]) as runner:
            assert list(runner.welcome.retained_leases) == [assignment.lease]
            await runner.complete(assignment)
        execution = (await client.executions.get(execution_id)).execution
        assert (execution.status, execution.attempts) == (Status.COMPLETED, 1)


async def test_a_backlog_resumes_by_itself_after_a_restart(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        accepted = {await client.ingest("hello", {"n": number}) for number in range(20)}
    async with running_router(tmp_path) as router, router.client() as client, attached(router, credit=20) as runner:
        for assignment in await runner.assignments(20):
            await runner.complete(assignment)
        completed = {execution.id async for execution in client.executions.list(statuses=[Status.COMPLETED])}
    assert completed == accepted


async def test_an_execution_that_breaks_its_runner_is_faulted_after_five_attempts(router, client, hello):
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=5) as runner:
        for attempt in range(1, 6):
            (assignment,) = await runner.assignments(1)
            assert assignment.attempt == attempt
            await runner.settle(pb.Outcome(lease=assignment.lease, released=pb.Released(reason="BROKEN", charged=True)))
        execution = await ended(client, execution_id)
    assert (execution.status, execution.attempts) == (Status.FAULTED, 5)
    assert execution.error.status == 500


async def test_cancelling_revokes_the_lease(router, client, hello):
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        assert (await client.executions.cancel(execution_id)).status is Status.CANCELLED
        revocation = await runner.next("revocation")
        assert (list(revocation.leases), revocation.reason) == ([assignment.lease], "EXECUTION_CANCELLED")
    with pytest.raises(ConflictError):
        await client.executions.cancel(execution_id)


async def test_a_replay_runs_the_same_event_under_a_new_id(router, client, hello):
    execution_id = await client.ingest("hello", {"a": 1})
    async with attached(router, credit=2) as runner:
        (assignment,) = await runner.assignments(1)
        with pytest.raises(ConflictError):
            await client.executions.replay(execution_id)
        await runner.complete(assignment)
        replay = await client.executions.replay(execution_id, request_id="once")
        assert replay.replay_of == execution_id
        assert (await client.executions.replay(execution_id, request_id="once")).id == replay.id
        (again,) = await runner.assignments(1)
        assert replay.id.encode() in again.event
        await runner.complete(again)
    assert (await client.executions.get(replay.id)).event.body == b'{"a":1}'


async def test_pausing_holds_events_back_and_resuming_lets_them_go(router, client, hello):
    await client.flows.pause("hello")
    await client.ingest("hello", {})
    await client.flows.apply([flow("other")])
    other = await client.ingest("other", {})
    async with attached(router, credit=5) as runner:
        (assignment,) = await runner.assignments(1)
        assert other.encode() in assignment.event
        await client.flows.resume("hello")
        assert len(await runner.assignments(1)) == 1


@pytest.mark.parametrize(
    "messages",
    [
        [{"credit": pb.Credit(assignments=1)}],
        [{"hello": pb.Hello()}],
        [{"hello": pb.Hello(runner_id="r")}, {"hello": pb.Hello(runner_id="r")}],
        [{"hello": pb.Hello(runner_id="r")}, {"credit": pb.Credit(assignments=-1)}],
        [{"hello": pb.Hello(runner_id="r")}, {"credit": pb.Credit(assignments=5000)}],
    ],
)
async def test_a_violation_of_the_protocol_ends_the_stream(router, messages):
    connection = channel.connect(router.target, router.token("runner"))
    call = runner_service_pb2_grpc.RunnerServiceStub(connection).Attach()
    for message in messages:
        await call.write(pb.AttachRequest(**message))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [message async for message in call]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await connection.close(None)


async def test_a_stream_without_a_hello_is_ended(router, monkeypatch):
    monkeypatch.setattr("router.services.runner.HELLO_SECONDS", 0.05)
    connection = channel.connect(router.target, router.token("runner"))
    call = runner_service_pb2_grpc.RunnerServiceStub(connection).Attach()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await connection.close(None)


async def test_a_runner_that_reads_nothing_gets_no_more_than_fits_and_leaves_the_rest_to_others(router, client, hello):
    fits = session.MAX_UNSENT_BYTES // 2**19 + 2  # one is being written and one is larger than the room that was left
    async with attached(router, "deaf", credit=100, narrow=True):
        for _ in range(100):
            await client.ingest("hello", "x" * 2**19, content_type="text/plain")
        async with attached(router, "r2", credit=100) as runner:
            left = 100 - fits
            while left > 0:
                for assignment in await runner.assignments(1):
                    await runner.complete(assignment)
                    left -= 1


async def test_a_runner_that_repeats_a_report_after_a_lost_answer_learns_that_it_is_over(router, client, hello):
    await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        outcome = pb.Outcome(lease=assignment.lease, completed=pb.Completed(output=b"{}"))
        await runner.send(outcomes=pb.OutcomeBatch(outcomes=[outcome, outcome]))
        await runner.send(outcomes=pb.OutcomeBatch(outcomes=[outcome]))
        assert list((await runner.next("settlement")).leases) == [assignment.lease]
        assert list((await runner.next("revocation")).leases) == [assignment.lease]


def checkpoints(assignment, *outputs, first=0):
    return pb.AttachRequest(
        checkpoints=pb.CheckpointBatch(
            checkpoints=[
                pb.Checkpoint(
                    lease=assignment.lease, index=index, entry=pb.JournalEntry(key=f"/do/{index}/a#0", output=output)
                )
                for index, output in enumerate(outputs, first)
            ]
        )
    )


def outcomes(*each):
    return pb.AttachRequest(outcomes=pb.OutcomeBatch(outcomes=each))


async def test_what_comes_in_a_bundle_is_on_record_in_order(router, client, hello):
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        completed = pb.Outcome(lease=assignment.lease, completed=pb.Completed(output=b"{}"))
        requests = [checkpoints(assignment, b"1", b"2"), checkpoints(assignment, b"3", first=2), outcomes(completed)]
        await runner.send(bundle=pb.RequestBundle(requests=requests))
        assert list((await runner.next("settlement")).leases) == [assignment.lease]
    detail = await client.executions.get(execution_id)
    assert detail.execution.status is Status.COMPLETED
    assert [task.output for task in detail.journal] == [b"1", b"2", b"3"]


async def test_an_execution_that_parks_keeps_what_it_journaled_just_before(router, client, hello):
    await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        parked = pb.Outcome(lease=assignment.lease, parked=pb.Parked())
        parked.parked.wake_time.GetCurrentTime()
        await runner.send(bundle=pb.RequestBundle(requests=[checkpoints(assignment, b"1"), outcomes(parked)]))
        await runner.next("settlement")
        await runner.credit(1)
        (again,) = await runner.assignments(1)
        assert [entry.output for entry in again.journal] == [b"1"]
        await runner.complete(again)


@pytest.mark.parametrize(
    "message", [pb.AttachRequest(hello=pb.Hello(runner_id="r1")), pb.AttachRequest(bundle=pb.RequestBundle())]
)
async def test_a_bundle_holds_neither_hello_nor_bundles(router, hello, message):
    async with attached(router) as runner:
        await runner.send(bundle=pb.RequestBundle(requests=[message]))
        with pytest.raises(grpc.aio.AioRpcError) as problem:
            await runner.next("settlement")
        assert problem.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_a_runner_said_before_it_closed_its_stream_is_on_record(router, client, hello):
    execution_ids = [await client.ingest("hello", {}) for _ in range(20)]
    async with attached(router, credit=20) as runner:
        for assignment in await runner.assignments(20):
            await runner.call.write(checkpoints(assignment, b"1"))
            await runner.call.write(outcomes(pb.Outcome(lease=assignment.lease, completed=pb.Completed(output=b"{}"))))
        await runner.call.done_writing()
        settled = set()
        while len(settled) < 20:
            settled.update((await runner.next("settlement")).leases)
    for execution_id in execution_ids:
        detail = await client.executions.get(execution_id)
        assert (detail.execution.status, len(detail.journal)) == (Status.COMPLETED, 1)
