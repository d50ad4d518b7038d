"""Jobs that replay with changes: from a task, with its output, with edited input; by the rules of single replays."""

from __future__ import annotations

import grpc
import pytest
from support.jobs import ended, outcomes, until
from support.routers import running_router
from support.runners import attached

from flowhook.client import channel
from flowhook.errors import InvalidError
from flowhook.model import Status, held_results
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import ItemOutcome, JobAction, JobSpec, JobState, ReplayEnds
from flowhook.model.replays import ReplayOptions, ReplayOrigin
from flowhook.v1 import execution_service_pb2, job_service_pb2, job_service_pb2_grpc
from flowhook.wire import status

DOCUMENT = b"""\
document: {dsl: 1.0.3, namespace: default, name: hello, version: 1.0.0}
do:
  - a: {set: {n: 0}}
  - b: {set: {n: 1}}
  - c: {set: {n: 2}}
"""
FLOW = ExecutionFilter(flow_id="hello")
TASK = "/do/1/b"
EDITED = ReplayOptions(body=b'{"n": "secret"}', content_type="application/json")


def replay_of(replay, **options):
    return JobSpec(JobAction.REPLAY, FLOW, replay, rate=1000, **options)


async def run(runner, client, *, journaled):
    """Have an execution complete that has journaled so many tasks, and return its ID."""
    execution_id = await client.ingest("hello", {"n": journaled})
    await runner.credit(1)
    [assignment] = await runner.assignments(1)
    for index, name in enumerate("abc"[:journaled]):
        await runner.checkpoint(assignment, index, f"/do/{index}/{name}#0", b"%d" % index)
        await runner.next("checkpointed")
    await runner.complete(assignment)
    return execution_id


@pytest.fixture
async def runner(router, client):
    await client.flows.apply([DOCUMENT])
    async with attached(router) as attachment:
        yield attachment


async def assigned(runner, count):
    await runner.credit(count)
    return await runner.assignments(count)


async def test_executions_that_ran_a_task_are_replayed_from_it_and_the_others_are_skipped(client, runner):
    ran = [await run(runner, client, journaled=3) for _ in range(2)]
    other = await run(runner, client, journaled=1)
    job = await ended(client, await client.jobs.create(replay_of(ReplayOptions(from_task=TASK))))
    assert (job.done, job.skipped, job.failed) == (2, 1, 0)
    assert job.spec.replay == ReplayOptions(from_task=TASK)
    [skipped] = await outcomes(client, job, outcome=ItemOutcome.SKIPPED)
    assert (skipped.execution_id, skipped.reason) == (other, "TASK_NOT_FOUND")
    assert f"did not run the task {TASK}" in skipped.message
    replays = await assigned(runner, 2)
    assert [[(entry.key, entry.output) for entry in each.journal] for each in replays] == [[("/do/0/a#0", b"0")]] * 2
    done = await outcomes(client, job, outcome=ItemOutcome.DONE)
    assert [item.execution_id for item in done] == ran
    replay = await client.executions.get(done[0].new_execution_id)
    assert (replay.execution.replay_of, replay.event.replay.task) == (ran[0], TASK)


async def test_the_output_of_the_task_is_given_and_is_not_shown_with_the_job(client, runner):
    await run(runner, client, journaled=3)
    options = ReplayOptions(from_task=TASK, output=b'{"token":"secret"}', latest=True)
    job = await ended(client, await client.jobs.create(replay_of(options)))
    [replay] = await assigned(runner, 1)
    given = [entry for entry in replay.journal if entry.key.endswith(held_results.GIVEN_OUTPUT)]
    assert [entry.output for entry in given] == [options.output]
    assert (job.done, job.spec.replay, job.data_bytes) == (1, options._replace(output=b""), len(options.output))
    [listed] = [each async for each in client.jobs.list()]
    assert "secret" not in repr(listed)


async def test_each_replay_gets_the_edited_input(client, runner):
    sent = [await run(runner, client, journaled=0) for _ in range(2)]
    job = await ended(client, await client.jobs.create(replay_of(EDITED)))
    assert (job.done, job.spec.replay) == (2, EDITED._replace(body=b""))
    for item in await outcomes(client, job):
        event = (await client.executions.get(item.new_execution_id)).event
        assert (event.body, event.content_type) == (EDITED.body, EDITED.content_type)
        assert event.replay == ReplayOrigin(edited_from=item.execution_id)
    assert [item.execution_id for item in await outcomes(client, job)] == sent


async def test_an_empty_body_is_an_edited_one(client, runner):
    await run(runner, client, journaled=0)
    job = await ended(client, await client.jobs.create(replay_of(ReplayOptions(body=b"", content_type=""))))
    [item] = await outcomes(client, job)
    assert (item.outcome, (await client.executions.get(item.new_execution_id)).event.body) == (ItemOutcome.DONE, b"")


async def test_an_input_that_does_not_match_the_type_of_the_request_is_the_reason_of_each_failure(client, runner):
    await run(runner, client, journaled=0)
    job = await ended(client, await client.jobs.create(replay_of(ReplayOptions(body=b"{"))))
    [item] = await outcomes(client, job)
    assert (item.outcome, item.reason) == (ItemOutcome.FAILED, "BODY_INVALID")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"from_task": "do/0/a"}, "TASK_REQUIRED"),
        ({"from_task": "/" + "x" * 5000}, "TASK_REQUIRED"),
        ({"from_task": TASK, "output": b"{"}, "BODY_INVALID"),
        ({"from_task": TASK, "output": b""}, "BODY_INVALID"),
        ({"from_task": TASK, "output": b" " * 2**20 + b"1"}, "OUTPUT_TOO_LARGE"),
        ({"output": b"1"}, "TASK_WITHOUT_START"),
        ({"from_task": TASK, "body": b"1"}, "EDIT_NOT_FROM_BEGINNING"),
        ({"from_failed": True, "body": b"1"}, "EDIT_NOT_FROM_BEGINNING"),
        ({"from_failed": True, "from_task": TASK}, "START_INVALID"),
        ({"content_type": "text/plain"}, "BODY_MISSING"),
        ({"body": b" " * 2**20 + b"1"}, "BODY_TOO_LARGE"),
        ({"body": b"1", "content_type": "a\nb"}, "CONTENT_TYPE_INVALID"),
    ],
)
async def test_what_would_be_refused_of_a_single_replay_is_refused_of_a_job(client, options, reason):
    replay = ReplayOptions(**options)
    for call in (lambda: client.jobs.create(replay_of(replay)), lambda: client.jobs.preview(FLOW, replay=replay)):
        with pytest.raises(InvalidError) as caught:
            await call()
        assert caught.value.reason == reason
    assert [job async for job in client.jobs.list()] == []


@pytest.mark.parametrize("field", [{"execution_id": "evt_x"}, {"request_id": "r"}, {"unless_replayed": True}])
async def test_fields_of_single_replays_are_refused(router, field):
    spec = job_service_pb2.JobSpec(
        action=job_service_pb2.JobSpec.ACTION_REPLAY,
        filter=execution_service_pb2.ExecutionFilter(flow_id="hello"),
        replay=execution_service_pb2.ReplayExecutionRequest(**field),
    )
    async with channel.connect(router.target, router.token()) as connection:
        stub = job_service_pb2_grpc.JobServiceStub(connection)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.CreateJob(job_service_pb2.CreateJobRequest(spec=spec))
    assert status.from_rpc_error(refused.value).reason == "JOB_INVALID"


async def test_a_preview_says_what_the_replays_of_the_oldest_would_do(client, runner):
    await run(runner, client, journaled=2)
    await run(runner, client, journaled=1)
    replayed = await run(runner, client, journaled=2)
    await client.executions.replay(replayed)
    wanted = FLOW._replace(statuses=())
    preview = await client.jobs.preview(wanted, replay=ReplayOptions(from_task=TASK))
    assert len(preview.sample) == len(preview.replays) == 4
    first, *others = preview.replays
    assert [each.task for each in first.preview.taken_over] == ["/do/0/a"]
    assert [each.task for each in first.preview.again] == [TASK]
    assert [(each.preview, each.reason) for each in others] == [
        (None, "TASK_NOT_FOUND"),
        (None, "EXECUTION_REPLAYED"),
        (None, "EXECUTION_NOT_ENDED"),
    ]
    again = await client.jobs.preview(wanted, replay=ReplayOptions(from_task=TASK), again=True)
    assert again.replays[2].preview is not None
    assert (await client.jobs.preview(wanted)).replays == ()


async def test_the_audit_log_names_the_changes_without_the_bytes(client, runner):
    edited = await client.jobs.create(replay_of(EDITED._replace(latest=True)))
    given = await client.jobs.create(replay_of(ReplayOptions(from_task=TASK, output=b'"secret"')))
    entries = [entry async for entry in client.audit.list() if entry.action == "JobService/CreateJob"]
    assert [entry.target for entry in entries] == [
        f"replay {given.id} with an output given to {TASK}",
        f"replay {edited.id} with edited input on the latest revision",
    ]


async def test_a_job_has_its_input_after_a_restart(tmp_path):
    body = b'"%s"' % (b"x" * (2**20 - 2))
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([DOCUMENT])
        for _ in range(3):
            await client.executions.cancel(await client.ingest("hello", {}))
        job = await client.jobs.create(JobSpec(JobAction.REPLAY, FLOW, ReplayOptions(body=body), rate=5))
        await until(lambda: client.jobs.get(job.id), lambda found: found.done >= 1)
    async with running_router(tmp_path) as router, router.client() as client:
        job = await ended(client, job)
        assert (job.state, job.done) == (JobState.COMPLETED, 3)
        for item in await outcomes(client, job):
            event = (await client.executions.get(item.new_execution_id)).event
            assert event.body == body


async def test_a_job_says_how_its_replays_ended(router, client, runner):
    for _ in range(4):
        await run(runner, client, journaled=1)
    job = await ended(client, await client.jobs.create(replay_of(ReplayOptions())))
    assert (await client.jobs.get(job.id)).replay_ends == ReplayEnds(0, 0, 0, 4)
    completed, faulted, waiting = await assigned(runner, 3)
    await runner.complete(completed)
    await runner.fault(faulted)
    await runner.park(waiting)
    items = await outcomes(client, job)
    await client.executions.cancel(items[3].new_execution_id)
    assert (await client.jobs.get(job.id)).replay_ends == ReplayEnds(1, 1, 1, 1)
    statuses = [item.new_execution_status for item in await outcomes(client, job)]
    assert statuses == [Status.COMPLETED, Status.FAULTED, Status.WAITING, Status.CANCELLED]
    [listed] = [each async for each in client.jobs.list()]
    assert listed.replay_ends is None  # each would have to be counted
    deletion = JobSpec(JobAction.DELETE, ExecutionFilter(flow_id="hello", statuses=(Status.COMPLETED,)), rate=1000)
    await ended(client, await client.jobs.create(deletion))
    assert (await client.jobs.get(job.id)).replay_ends == ReplayEnds(0, 1, 1, 1, 1)
