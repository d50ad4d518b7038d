"""Deleting executions, and erasing their events, by operators."""

from __future__ import annotations

import pytest
from support.effects import effects_of
from support.routers import flow, running_router
from support.runners import attached

from flowhook.client.channel import connect
from flowhook.errors import ConflictError, NotFoundError
from flowhook.events import ids
from flowhook.limits import MAX_BODY_BYTES
from flowhook.model import Status
from flowhook.model.audit import audit_reason
from flowhook.v1 import rejection_service_pb2 as pb
from flowhook.v1 import runner_service_pb2 as runner_pb
from flowhook.v1.rejection_service_pb2_grpc import RejectionServiceStub

MARK = b"jane.doe@example.com"
BODY = b'{"customer": "%b"}' % MARK


@pytest.fixture
async def orders(client):
    """A flow with search attributes; returns the ID of a function that sends it an event."""
    await client.flows.apply([flow("orders", b"execution: {search: {customer: .body.customer}}\n"), flow("child")])

    async def send(body=BODY, **fields):
        return await client.ingest("orders", body, **fields)

    return send


def left(router):
    """Return the files of a router's data directory that have the mark."""
    files = [path for path in router.settings.data_dir.rglob("*") if path.is_file()]
    return [path.name for path in files if MARK in path.read_bytes()]


async def run(router, executions=1):
    async with attached(router, credit=executions) as runner:
        for assignment in await runner.assignments(executions):
            await runner.complete(assignment, MARK)


async def test_an_event_is_erased_from_all_files_with_its_replays(router, client, orders):
    execution_id = await orders()
    large_id = await orders(MARK * (MAX_BODY_BYTES // len(MARK) // 4), content_type="text/plain")
    await run(router, 2)
    replay = await client.executions.replay(execution_id)
    await run(router)
    assert left(router)
    deleted = await client.executions.delete(replay.id, erase=True)
    assert deleted.execution_ids == (execution_id, replay.id)
    assert deleted.erase_time_ms >= ids.time_ms_of(execution_id)
    assert not deleted.purge_pending
    await client.executions.delete(large_id, erase=True)
    assert left(router) == []
    for each in (execution_id, replay.id, large_id):
        with pytest.raises(NotFoundError):
            await client.executions.get(each)
    assert [each async for each in client.executions.list()] == []


async def test_erasing_again_succeeds_also_after_a_restart_and_what_never_was_is_unknown(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("orders")])
        execution_id = await client.ingest("orders", BODY)
        await run(router)
        first = await client.executions.delete(execution_id, erase=True)
    async with running_router(tmp_path) as router, router.client() as client:
        assert await client.executions.delete(execution_id, erase=True) == first
        with pytest.raises(NotFoundError):
            await client.executions.delete(execution_id)
        with pytest.raises(NotFoundError):
            await client.executions.delete(ids.mint(1), erase=True)


@pytest.mark.parametrize("erase", [True, False])
async def test_what_has_not_ended_is_refused_unless_it_is_to_be_cancelled(router, client, orders, erase):
    execution_id = await orders()
    with pytest.raises(ConflictError, match="has not ended") as refused:
        await client.executions.delete(execution_id, erase=erase)
    assert refused.value.reason == "EXECUTION_NOT_ENDED"
    await client.executions.delete(execution_id, erase=erase, cancel=True)
    with pytest.raises(NotFoundError):
        await client.executions.get(execution_id)


async def test_a_replay_that_has_not_ended_is_cancelled_too(router, client, orders):
    execution_id = await orders()
    await run(router)
    replay = await client.executions.replay(execution_id)
    with pytest.raises(ConflictError, match=replay.id):
        await client.executions.delete(execution_id, erase=True)
    deleted = await client.executions.delete(execution_id, erase=True, cancel=True)
    assert deleted.execution_ids == (execution_id, replay.id)
    assert left(router) == []


async def test_one_is_deleted_and_nothing_else(router, client, orders):
    first, second = await orders(), await orders()
    await run(router, 2)
    deleted = await client.executions.delete(first)
    assert (deleted.execution_ids, deleted.erase_time_ms) == ((first,), None)
    assert [each.id async for each in client.executions.list()] == [second]


async def test_a_replay_of_a_failed_one_is_deleted_after_that_but_erased_with_it(router, client, orders):
    execution_id = await orders()
    await client.executions.cancel(execution_id)
    replay = await client.executions.replay(execution_id)
    await run(router)
    with pytest.raises(ConflictError) as refused:
        await client.executions.delete(replay.id)
    assert refused.value.reason == "ORIGINAL_STORED"
    assert len((await client.executions.delete(replay.id, erase=True)).execution_ids) == 2


async def test_executions_that_it_started_are_named_and_kept_and_it_has_to_end_before_them(router, client, orders):
    parent_id = await orders()
    async with effects_of(router) as effects:
        child_id = await effects.start(input=BODY, caller=parent_id, flow_id="child")
    await client.executions.cancel(child_id)
    with pytest.raises(ConflictError) as refused:
        await client.executions.delete(child_id, erase=True)
    assert refused.value.reason == "PARENT_NOT_ENDED"
    deleted = await client.executions.delete(parent_id, erase=True, cancel=True)
    assert [each.id for each in deleted.links.caused] == [child_id]
    assert left(router)
    again = await client.executions.delete(parent_id, erase=True)
    assert again.links == deleted.links
    assert [each.id for each in (await client.executions.delete(child_id, erase=True)).links.causes] == [parent_id]
    assert left(router) == []


async def test_refused_requests_with_the_same_body_go_with_it(router, client, orders):
    def rejection(body):
        return pb.Rejection(id=f"rej_{ids.mint(1)[4:]}", flow_id="orders", reason="SIGNATURE_MISMATCH", body=body)

    other = rejection(b"other")
    async with connect(router.target, router.token("edge")) as channel:
        report = pb.ReportRejectionsRequest(rejections=[rejection(BODY), other, rejection(b"")])
        await RejectionServiceStub(channel).ReportRejections(report)
    execution_id = await orders()
    await client.executions.delete(execution_id, erase=True, cancel=True)
    assert len((await client.rejections.page()).items) == 2
    assert left(router) == []


async def test_it_is_recorded_without_what_others_wrote_about_it(router, client, orders):
    execution_id = await orders()
    with audit_reason(f"{MARK.decode()} wants no more of it"):
        await client.executions.suspend(execution_id)
    with audit_reason("request 4711"):
        await client.executions.delete(execution_id, erase=True, cancel=True)
    deleted, suspended = [each async for each in client.audit.list(target=execution_id)]
    assert (deleted.action, deleted.target) == ("ExecutionService/DeleteExecution", f"erase {execution_id}")
    assert (deleted.reason, suspended.reason) == ("request 4711", "")
    assert left(router) == []


async def test_its_result_that_comes_later_is_not_stored(router, client, orders):
    execution_id = await orders()
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        await client.executions.delete(execution_id, erase=True, cancel=True)
        await runner.next("revocation")
        late = runner_pb.Outcome(lease=assignment.lease, completed=runner_pb.Completed(output=MARK))
        await runner.send(outcomes=runner_pb.OutcomeBatch(outcomes=[late]))
        await runner.credit(1)
        other = await orders(b"{}")
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment)
    assert (await client.executions.get(other)).execution.status is Status.COMPLETED
    assert left(router) == []
