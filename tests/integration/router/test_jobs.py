"""Bulk jobs: what they do with executions, and that a restart neither skips nor repeats any."""

from __future__ import annotations

import time

import grpc
import pytest
from support.jobs import ended, outcomes, until
from support.routers import flow, running_router
from support.runners import attached

from flowhook.client import channel
from flowhook.errors import ConflictError, InvalidError, NotFoundError, PermissionDeniedError
from flowhook.model import Status
from flowhook.model.execution_filter import ALL, ExecutionFilter
from flowhook.model.jobs import ItemOutcome, JobAction, JobSpec, JobState
from flowhook.model.replays import ReplayOptions
from flowhook.v1 import failure_pb2, job_service_pb2
from flowhook.wire import convert
from flowhook.wire.mapping import to_proto

FAST = 1000.0


def replay_of(flow_id="hello", **options):
    wanted = ExecutionFilter(flow_id=flow_id, statuses=(Status.FAULTED,))
    return JobSpec(**({"action": JobAction.REPLAY, "filter": wanted, "rate": FAST} | options))


async def listed(client, **conditions):
    return [execution async for execution in client.executions.list(**conditions)]


async def send(client, count, flow_id="hello"):
    return [await client.ingest(flow_id, {"n": number}) for number in range(count)]


async def fault(router, client, count, flow_id="hello", before=0):
    """Send events whose executions fault, as `before` ones did, and return their IDs, oldest first."""
    sent = await send(client, count, flow_id)
    async with attached(router, credit=count) as runner:
        for assignment in await runner.assignments(count):
            await runner.fault(assignment, "/do/0/keep")
        await until(
            lambda: listed(client, flow_id=flow_id, statuses=[Status.FAULTED]),
            lambda found: len(found) == before + count,
        )
    return sent


@pytest.fixture
async def hello(client):
    await client.flows.apply([flow("hello")])


async def test_all_that_match_are_replayed_once_oldest_first(router, client, hello):
    faulted = await fault(router, client, 5)
    preview = await client.jobs.preview(replay_of().filter)
    assert (preview.count, preview.more, [each.id for each in preview.sample]) == (5, False, faulted)
    created = await client.jobs.create(replay_of(reason="the shop was away"))
    job = await ended(client, created)
    assert (job.state, job.expected, job.matched, job.done) == (JobState.COMPLETED, 5, 5, 5)
    assert (job.spec, job.created_at) == (replay_of(reason="the shop was away"), created.created_at)
    items = await outcomes(client, job)
    assert [(item.execution_id, item.outcome) for item in items] == [(each, ItemOutcome.DONE) for each in faulted]
    replays = await listed(client, statuses=[Status.PENDING])
    assert [(each.id, each.replay_of) for each in reversed(replays)] == [
        (item.new_execution_id, item.execution_id) for item in items
    ]


async def test_one_that_was_replayed_or_resolved_is_skipped_unless_it_is_to_be_replayed_again(router, client, hello):
    replayed, resolved, _ = await fault(router, client, 3)
    await client.executions.replay(replayed)
    await client.executions.resolve(resolved)
    job = await ended(client, await client.jobs.create(replay_of()))
    assert (job.done, job.skipped, job.failed) == (1, 2, 0)
    skipped = await outcomes(client, job, outcome=ItemOutcome.SKIPPED)
    assert [(item.execution_id, item.reason) for item in skipped] == [
        (replayed, "EXECUTION_REPLAYED"),
        (resolved, "EXECUTION_RESOLVED"),
    ]
    again = await ended(client, await client.jobs.create(replay_of(again=True)))
    assert (again.done, again.skipped) == (3, 0)


async def test_of_an_execution_and_its_replay_that_failed_the_latter_is_replayed(router, client, hello):
    [original] = await fault(router, client, 1)
    replay = await client.executions.replay(original)
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.fault(assignment, "/do/0/keep")
        await until(lambda: listed(client, statuses=[Status.FAULTED]), lambda found: len(found) == 2)
    job = await ended(client, await client.jobs.create(replay_of()))
    assert [(item.execution_id, item.outcome) for item in await outcomes(client, job)] == [
        (original, ItemOutcome.SKIPPED),
        (replay.id, ItemOutcome.DONE),
    ]


@pytest.mark.parametrize(
    ("action", "status"), [(JobAction.CANCEL, Status.CANCELLED), (JobAction.SUSPEND, Status.SUSPENDED)]
)
async def test_executions_that_have_not_ended_are_cancelled_or_suspended(client, hello, action, status):
    sent = await send(client, 3)
    wanted = ExecutionFilter(statuses=(Status.PENDING,))
    job = await ended(client, await client.jobs.create(JobSpec(action, wanted, rate=FAST)))
    assert job.done == 3
    assert {(each.id, each.status) for each in await listed(client)} == {(each, status) for each in sent}


async def test_suspended_executions_are_resumed(client, hello):
    (execution_id,) = await send(client, 1)
    await client.executions.suspend(execution_id)
    wanted = ExecutionFilter(statuses=(Status.SUSPENDED,))
    await ended(client, await client.jobs.create(JobSpec(JobAction.RESUME, wanted)))
    assert (await client.executions.get(execution_id)).execution.status is Status.PENDING


async def test_executions_that_wait_for_their_next_try_have_it_at_once_and_others_are_skipped(router, client, hello):
    sent = await send(client, 3)
    async with attached(router, credit=3) as runner:
        *failed, waits = await runner.assignments(3)
        for each in failed:
            error = failure_pb2.WorkflowError(type="about:blank", status=503, title="Away", instance="/do/0/ask")
            next_time = convert.timestamp(int((time.time() + 3600) * 1000))
            retry = failure_pb2.Retry(error=error, tries=1, next_time=next_time)
            await runner.park(each, time.time() + 3600, retry=retry, retry_keys=["/do/0/ask#0:retry"])
        await runner.park(waits, time.time() + 3600)
        await until(lambda: listed(client, statuses=[Status.WAITING]), lambda found: len(found) == 3)
        wanted = ExecutionFilter(flow_id="hello", statuses=(Status.WAITING,))
        job = await ended(client, await client.jobs.create(JobSpec(JobAction.RETRY, wanted, rate=FAST)))
        assert (job.done, job.skipped, job.failed) == (2, 1, 0)
        (skipped,) = await outcomes(client, job, outcome=ItemOutcome.SKIPPED)
        assert (skipped.execution_id, skipped.reason) == (sent[2], "EXECUTION_NOT_RETRYING")
        async with attached(router, "runner-2", credit=2) as other:
            again = await other.assignments(2)
            assert [each.journal[-1].key for each in again] == ["/do/0/ask#0:retry"] * 2


async def test_failed_executions_are_resolved_with_the_reason_of_the_job(router, client, hello):
    faulted = await fault(router, client, 2)
    wanted = ExecutionFilter(unresolved=True)
    await ended(client, await client.jobs.create(JobSpec(JobAction.RESOLVE, wanted, rate=FAST, reason="known")))
    for execution_id in faulted:
        assert (await client.executions.get(execution_id)).execution.resolution.reason == "known"


async def test_ended_executions_are_deleted_and_others_are_skipped(router, client, hello):
    faulted = await fault(router, client, 2)
    (pending,) = await send(client, 1)
    wanted = ExecutionFilter(flow_id="hello")
    job = await ended(client, await client.jobs.create(JobSpec(JobAction.DELETE, wanted, rate=FAST)))
    assert (job.done, job.skipped) == (2, 1)
    (skipped,) = await outcomes(client, job, outcome=ItemOutcome.SKIPPED)
    assert (skipped.execution_id, skipped.reason) == (pending, "EXECUTION_NOT_ENDED")
    assert [each.id for each in await listed(client)] == [pending]
    with pytest.raises(NotFoundError):
        await client.executions.get(faulted[0])


async def test_a_replay_is_not_deleted_before_the_failed_execution_that_it_stands_for(router, client, hello):
    [original] = await fault(router, client, 1)
    replay = await client.executions.replay(original)
    await client.executions.cancel(replay.id)
    replays = ExecutionFilter(flow_id="hello", statuses=(Status.CANCELLED,))
    job = await ended(client, await client.jobs.create(JobSpec(JobAction.DELETE, replays)))
    assert [item.reason for item in await outcomes(client, job)] == ["ORIGINAL_STORED"]
    both = ExecutionFilter(flow_id="hello")
    job = await ended(client, await client.jobs.create(JobSpec(JobAction.DELETE, both, rate=FAST)))
    assert (job.done, await listed(client)) == (2, [])


async def test_events_that_arrive_later_are_not_taken(client, hello):
    wanted = ExecutionFilter(flow_id="hello")
    first, second = await send(client, 2)
    job = await client.jobs.create(JobSpec(JobAction.CANCEL, wanted, rate=2))
    later = await client.ingest("hello", {})
    await ended(client, job)
    assert [item.execution_id for item in await outcomes(client, job)] == [first, second]
    assert (await client.executions.get(later)).execution.status is Status.PENDING


async def test_a_job_is_paused_resumed_and_aborted(client, hello):
    await send(client, 50)
    wanted = ExecutionFilter(flow_id="hello")
    job = await client.jobs.create(JobSpec(JobAction.CANCEL, wanted, rate=20))
    await until(lambda: client.jobs.get(job.id), lambda found: found.done >= 1)
    paused = await client.jobs.pause(job.id)
    assert paused.state is JobState.PAUSED
    assert paused.matched == paused.done < 50
    assert len(await listed(client, statuses=[Status.CANCELLED])) == paused.done
    assert (await client.jobs.resume(job.id)).state in (JobState.PENDING, JobState.RUNNING)
    await until(lambda: client.jobs.get(job.id), lambda found: found.done > paused.done)
    aborted = await client.jobs.abort(job.id)
    assert aborted.state is JobState.ABORTED
    assert aborted.ended_at is not None
    assert len(await listed(client, statuses=[Status.CANCELLED])) == aborted.done < 50
    assert await client.jobs.abort(job.id) == aborted
    with pytest.raises(ConflictError) as caught:
        await client.jobs.resume(job.id)
    assert caught.value.reason == "JOB_ENDED"


async def test_a_full_backlog_delays_a_job_and_fails_nothing(router, client):
    document = flow("small", b"execution: {max_backlog: 2}\n")
    await client.flows.apply([document])
    await fault(router, client, 2, "small")
    await fault(router, client, 2, "small", before=2)
    job = await client.jobs.create(replay_of("small"))
    delayed = await until(lambda: client.jobs.get(job.id), lambda found: found.delay_reason)
    assert "backlog" in delayed.delay_reason
    assert (await client.jobs.get(job.id)).failed == 0
    async with attached(router, credit=4) as runner:
        for assignment in await runner.assignments(2):
            await runner.complete(assignment)
        done = await ended(client, job)
    assert (done.done, done.failed, done.delay_reason) == (4, 0, "")


async def test_a_flow_that_was_deleted_meanwhile_is_the_reason_of_each_failure(router, client, hello):
    await fault(router, client, 2)
    await client.flows.delete("hello")
    job = await ended(client, await client.jobs.create(replay_of(replay=ReplayOptions(latest=True))))
    assert (job.state, job.failed) == (JobState.COMPLETED, 2)
    assert {item.reason for item in await outcomes(client, job)} == {"FLOW_NOT_FOUND"}


async def test_a_job_that_is_created_twice_is_one(client, hello):
    first = await client.jobs.create(replay_of(), request_id="r")
    assert (await client.jobs.create(replay_of(), request_id="r")).id == first.id
    assert [job.id async for job in client.jobs.list()] == [first.id]


async def test_a_filter_without_a_condition_is_refused(client):
    for call in (client.jobs.preview(ALL), client.jobs.create(replay_of(filter=ALL))):
        with pytest.raises(InvalidError, match="give at least one") as caught:
            await call
        assert caught.value.reason == "FILTER_EMPTY"


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 1001},
        {"rate": -1},
        {"reason": "x" * 1001},
        {"action": JobAction.CANCEL, "replay": ReplayOptions(latest=True)},
    ],
)
async def test_what_a_job_can_not_be_is_refused(client, options):
    with pytest.raises(InvalidError) as caught:
        await client.jobs.create(replay_of(**options))
    assert caught.value.reason == "JOB_INVALID"


@pytest.mark.parametrize("name", ["revision", "start"])
async def test_a_replay_of_a_kind_that_only_a_newer_version_knows_is_refused(client, router, name):
    spec = to_proto(replay_of(), job_service_pb2.JobSpec)
    setattr(spec.replay, name, 99)
    async with channel.connect(router.target, router.token()) as connection:
        call = connection.unary_unary("/flowhook.v1.JobService/CreateJob")
        with pytest.raises(grpc.aio.AioRpcError, match=f"does not know the `{name}`"):
            await call(job_service_pb2.CreateJobRequest(spec=spec).SerializeToString())
    assert [job async for job in client.jobs.list()] == []


async def test_viewers_read_jobs_and_change_none(router, client, hello):
    job = await client.jobs.create(replay_of())
    async with router.client("view") as viewer:
        assert (await viewer.jobs.get(job.id)).id == job.id
        assert (await viewer.jobs.preview(replay_of().filter)).count == 0
        for call in (viewer.jobs.create(replay_of()), viewer.jobs.abort(job.id), viewer.jobs.pause(job.id)):
            with pytest.raises(PermissionDeniedError):
                await call


async def test_an_unknown_job_is_not_found(client):
    for call in (client.jobs.get("job_x"), client.jobs.item_page("job_x"), client.jobs.abort("job_x")):
        with pytest.raises(NotFoundError) as caught:
            await call
        assert caught.value.reason == "JOB_NOT_FOUND"


async def test_a_job_continues_after_a_restart(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        sent = await send(client, 20)
        job = await client.jobs.create(JobSpec(JobAction.CANCEL, ExecutionFilter(statuses=(Status.PENDING,)), rate=20))
        await until(lambda: client.jobs.get(job.id), lambda found: found.done >= 1)
    async with running_router(tmp_path) as router, router.client() as client:
        job = await ended(client, job)
        assert [item.execution_id for item in await outcomes(client, job)] == sent
        assert (job.matched, job.done) == (20, 20)
