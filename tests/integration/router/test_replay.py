"""Replays: from the start, and from the task that failed."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from support.routers import flow, running_router
from support.runners import attached

from flowhook.client import channel
from flowhook.errors import ConflictError, InvalidError, NotFoundError
from flowhook.model import RaiseOrigin, Status
from flowhook.model.replays import ReplayOptions
from flowhook.v1 import execution_service_pb2, execution_service_pb2_grpc, failure_pb2
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert, status


@pytest.fixture
async def hello(client):
    await client.flows.apply([flow("hello")])


def failure(assignment, index, key):
    error = {"type": "about:blank", "status": 503, "title": "away", "instance": key.partition("#")[0]}
    return pb.Checkpoint(lease=assignment.lease, index=index, entry=pb.JournalEntry(key=key, error=error))


async def fault(runner, assignment, *, at):
    """Journal a success and a failure, and fault by the latter."""
    await runner.checkpoint(assignment, 0, "/do/0/a#0", b"1")
    await runner.next("checkpointed")
    await runner.fault(assignment, at, checkpoints=[failure(assignment, 1, f"{at}#0")])


async def test_a_replay_from_the_failed_task_takes_over_what_succeeded_and_the_scope_of_keys(router, client, hello):
    execution_id = await client.ingest("hello", {"a": 1})
    async with attached(router, credit=3) as runner:
        (assignment,) = await runner.assignments(1)
        await fault(runner, assignment, at="/do/1/b")
        replay = await client.executions.replay(execution_id, ReplayOptions(from_failed=True))
        (again,) = await runner.assignments(1)
        assert (again.attempt, again.effect_scope, again.journal_start) == (1, execution_id, 0)
        assert [(entry.key, entry.output) for entry in again.journal] == [("/do/0/a#0", b"1")]
        assert replay.id.encode() in again.event
        await runner.fault(again, "/do/1/b")
        second = await client.executions.replay(replay.id, ReplayOptions(from_failed=True))
        (last,) = await runner.assignments(1)
        assert last.effect_scope == execution_id
        assert second.replay_of == replay.id
        await runner.complete(last)
    assert (await client.executions.get(execution_id)).execution.status is Status.FAULTED


async def test_of_what_a_handler_raised_a_replay_takes_over_what_succeeded_apart_from_the_order(router, client, hello):
    execution_id = await client.ingest("hello", {})
    raising = failure_pb2.WorkflowError(
        type="about:blank",
        status=500,
        instance="/do/0/t/try/0/b",
        raising={"task": "/do/0/t/catch/do/1/again", "cause": "/do/0/t/try/0/b#0"},
    )
    async with attached(router, credit=2) as runner:
        (assignment,) = await runner.assignments(1)
        notified = pb.JournalEntry(key="/do/0/t/catch/do/0/notify#0", output=b"1")
        failed = failure(assignment, 0, "/do/0/t/try/0/b#0")
        notes = [failed, pb.Checkpoint(lease=assignment.lease, index=1, entry=notified)]
        await runner.settle(pb.Outcome(lease=assignment.lease, faulted=raising, checkpoints=notes))
        replay = await client.executions.replay(execution_id, ReplayOptions(from_failed=True))
        (again,) = await runner.assignments(1)
        assert [(entry.key, entry.output) for entry in again.journal] == [("~/do/0/t/catch/do/0/notify#0", b"1")]
    shown = await client.executions.get(execution_id)
    assert shown.execution.error.raising == RaiseOrigin("/do/0/t/catch/do/1/again", "/do/0/t/try/0/b#0")
    assert (await client.executions.get(replay.id)).journal == ()


async def test_what_a_replay_takes_over_is_there_after_a_restart_and_a_lost_runner(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        execution_id = await client.ingest("hello", {})
        async with attached(router, credit=1) as runner:
            (assignment,) = await runner.assignments(1)
            await runner.checkpoint(assignment, 0, "@", b"{}", compacts=False)
            await runner.checkpoint(assignment, 1, "@", b'{"n":1}', compacts=True)
            await runner.fault(assignment, "/do/1/b")
        await client.executions.replay(execution_id, ReplayOptions(from_failed=True, latest=True))
    async with running_router(tmp_path) as router:
        for runner_id in ("r1", "r2"):
            async with attached(router, runner_id, credit=1) as runner:
                (again,) = await runner.assignments(1)
                assert (again.effect_scope, again.journal_start) == (execution_id, 1)
                assert [entry.output for entry in again.journal] == [b'{"n":1}']


async def test_a_replay_from_the_start_has_a_scope_and_a_journal_of_its_own(router, client, hello):
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=2) as runner:
        (assignment,) = await runner.assignments(1)
        await fault(runner, assignment, at="/do/1/b")
        await client.executions.replay(execution_id)
        (again,) = await runner.assignments(1)
        assert (again.effect_scope, list(again.journal)) == ("", [])


async def test_what_completed_has_no_failed_task(router, client, hello):
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment)
    with pytest.raises(ConflictError) as caught:
        await client.executions.replay(execution_id, ReplayOptions(from_failed=True))
    assert caught.value.reason == "EXECUTION_NOT_FAILED"


async def test_a_request_id_makes_one_replay_from_the_failed_task(router, client, hello):
    execution_id = await client.ingest("hello", {})
    await client.executions.cancel(execution_id)
    first = await client.executions.replay(execution_id, ReplayOptions(from_failed=True), request_id="k")
    assert (
        await client.executions.replay(execution_id, ReplayOptions(from_failed=True), request_id="k")
    ).id == first.id


@pytest.fixture
async def failed(router, client, hello):
    """An execution that faulted, and the runner that had it, with room for another."""
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=2) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.fault(assignment, "/do/1/b")
        yield execution_id, runner


async def test_what_a_replay_stands_for_is_not_replayed_again_unless_that_is_wanted(client, failed):
    execution_id, runner = failed
    first = await client.executions.replay(execution_id, unless_replayed=True)
    with pytest.raises(ConflictError, match=first.id) as caught:
        await client.executions.replay(execution_id, unless_replayed=True)
    assert caught.value.reason == "EXECUTION_REPLAYED"
    (again,) = await runner.assignments(1)
    await runner.complete(again)
    with pytest.raises(ConflictError):
        await client.executions.replay(execution_id, unless_replayed=True)
    shown = (await client.executions.get(execution_id)).execution
    assert (shown.replayed_by, shown.replayed) == (first.id, True)
    assert [each async for each in client.executions.list(unresolved=True)] == []
    assert (await client.executions.replay(execution_id)).id != first.id


async def test_of_many_that_replay_one_event_at_once_one_does(client, failed):
    execution_id, _ = failed
    calls = [client.executions.replay(execution_id, unless_replayed=True) for _ in range(20)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [result for result in results if isinstance(result, ConflictError)]
    assert [result.reason for result in refused] == ["EXECUTION_REPLAYED"] * 19


async def test_a_replay_whose_answer_was_lost_is_not_refused_as_another_one(client, failed):
    execution_id, _ = failed
    first = await client.executions.replay(execution_id, unless_replayed=True, request_id="k")
    assert await client.executions.replay(execution_id, unless_replayed=True, request_id="k") == first


async def test_that_holds_after_a_restart_too(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        execution_id = await client.ingest("hello", {})
        await client.executions.cancel(execution_id)
        first = await client.executions.replay(execution_id, unless_replayed=True, request_id="k")
    async with running_router(tmp_path) as router, router.client() as client:
        again = await client.executions.replay(execution_id, unless_replayed=True, request_id="k")
        assert again.id == first.id
        with pytest.raises(ConflictError):
            await client.executions.replay(execution_id, unless_replayed=True, request_id="other")


async def test_what_is_resolved_is_no_longer_unresolved_and_not_replayed_unless_that_is_wanted(client, failed):
    execution_id, _ = failed
    (listed,) = [each async for each in client.executions.list(unresolved=True)]
    assert listed.id == execution_id
    resolved = await client.executions.resolve(execution_id, "refunded by hand")
    assert resolved.resolution is not None
    assert resolved.resolution.reason == "refunded by hand"
    assert [each async for each in client.executions.list(unresolved=True)] == []
    assert (await client.executions.get(execution_id)).execution == resolved
    with pytest.raises(ConflictError, match="refunded by hand") as caught:
        await client.executions.replay(execution_id, unless_replayed=True)
    assert caught.value.reason == "EXECUTION_RESOLVED"
    assert (await client.executions.replay(execution_id)).replay_of == execution_id


async def test_only_what_failed_is_resolved_with_a_reason_of_some_length(client, failed):
    execution_id, _ = failed
    with pytest.raises(InvalidError):
        await client.executions.resolve(execution_id, "x" * 1001)
    with pytest.raises(ConflictError) as caught:
        await client.executions.resolve(await client.ingest("hello", {}))
    assert caught.value.reason == "EXECUTION_NOT_FAILED"
    with pytest.raises(NotFoundError):
        await client.executions.resolve("evt_01m8746w29ee29nr9fsnpeescq")


@pytest.mark.parametrize("unknown", [{"start": 99}, {"revision": 99}])
async def test_a_choice_that_the_router_does_not_know_is_refused(router, client, hello, unknown):
    execution_id = await client.ingest("hello", {})
    await client.executions.cancel(execution_id)
    async with channel.connect(router.target, router.token()) as connection:
        stub = execution_service_pb2_grpc.ExecutionServiceStub(connection)
        request = execution_service_pb2.ReplayExecutionRequest(execution_id=execution_id, **unknown)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ReplayExecution(request)
    assert status.from_rpc_error(refused.value).reason == "REPLAY_INVALID"


async def test_by_itself_a_replay_starts_where_the_execution_failed_or_at_the_beginning(router, client, hello):
    async with attached(router, credit=4) as runner:
        ids = [await client.ingest("hello", {}) for _ in range(2)]
        for name, assignment in zip(("failed", "completed"), await runner.assignments(2), strict=True):
            await runner.checkpoint(assignment, 0, "/do/0/a#0", b"1")
            await runner.next("checkpointed")
            await (runner.fault(assignment, "/do/1/b") if name == "failed" else runner.complete(assignment))
        failed, completed = [await client.executions.replay(each, ReplayOptions(auto=True)) for each in ids]
        assert (await client.executions.get(failed.id)).event.replay.from_failed_task
        assert not (await client.executions.get(completed.id)).event.replay.from_failed_task
        # in any order: one is read from storage, the other is in memory
        assignments = await runner.assignments(2)
        journals = {convert.event_from_bytes(each.event).id: len(each.journal) for each in assignments}
        assert journals == {failed.id: 1, completed.id: 0}
    for each in ids:
        preview = await client.executions.preview_replay(each, ReplayOptions(auto=True))
        assert preview.keeps_idempotency_keys is (each == ids[0])
        assert preview.latest_revision == 1
    edited = await client.executions.preview_replay(ids[0], ReplayOptions(auto=True, body=b"{}"))
    assert not edited.keeps_idempotency_keys
    with pytest.raises(InvalidError, match="give one of"):
        await client.executions.replay(ids[0], ReplayOptions(auto=True, from_failed=True))


async def test_by_itself_a_replay_that_would_only_raise_again_starts_at_the_beginning(router, client, hello):
    async with attached(router, credit=1) as runner:
        execution_id = await client.ingest("hello", {})
        [assignment] = await runner.assignments(1)
        error = {"type": "about:blank", "status": 500, "title": "no", "instance": "/do/0", "raising": {"task": "/do/0"}}
        await runner.settle({"lease": assignment.lease, "faulted": error})
    with pytest.raises(ConflictError) as refused:
        await client.executions.replay(execution_id, ReplayOptions(from_failed=True))
    assert refused.value.reason == "NOTHING_TO_RUN_ANEW"
    replay = await client.executions.replay(execution_id, ReplayOptions(auto=True))
    assert not (await client.executions.get(replay.id)).event.replay.from_failed_task


async def test_that_there_is_a_newer_revision_is_said_until_the_flow_is_deleted(client, failed):
    failed, _ = failed
    assert (await client.executions.get(failed)).latest_revision == 1
    await client.flows.apply([flow("hello") + b"\n# another revision\n"])
    assert (await client.executions.get(failed)).latest_revision == 2
    assert (await client.executions.preview_replay(failed)).latest_revision == 2
    await client.flows.delete("hello")
    assert (await client.executions.get(failed)).latest_revision == 0
