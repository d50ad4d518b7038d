"""Executions that wait for their next try: what is told of them, and how an operator ends the wait."""

from __future__ import annotations

import asyncio
import time

import grpc.aio
import orjson
import pytest
from support.patience import PATIENCE
from support.routers import flow, running_router
from support.runners import attached

from flowhook.errors import ConflictError, NotFoundError, PermissionDeniedError
from flowhook.model import Status
from flowhook.v1 import failure_pb2
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert
from flowhook.wire.status import from_rpc_error

KEYS = ("/do/0/ask#0:retry", "/do/1/both/branches/1/ask#0:retry")
LATER = 3600
ORIGIN = "https://api.example"


@pytest.fixture
async def hello(client):
    await client.flows.apply([flow("hello")])


def retry(**fields):
    response = {"status": 503, "url": "https://example.com", "body": "down", "size": 4}
    error = failure_pb2.WorkflowError(
        type="about:blank", status=503, title="Away", instance="/do/0/ask", detail="x", response=response
    )
    at = convert.timestamp(int((time.time() + LATER) * 1000))
    return failure_pb2.Retry(**{"error": error, "tries": 2, "next_time": at, "others": 1, **fields})


async def park(runner, assignment, **fields):
    """Park as a runner does whose call failed and is tried again in an hour."""
    until = pb.JournalEntry(key=KEYS[0], output=orjson.dumps({"until": int((time.time() + LATER) * 1000)}))
    checkpoint = pb.Checkpoint(lease=assignment.lease, index=len(assignment.journal), entry=until)
    given = {"retry": retry(), "retry_keys": KEYS, **fields}
    await runner.park(assignment, time.time() + LATER, checkpoints=[checkpoint], **given)


async def test_it_is_told_what_failed_and_when_it_is_tried_again_until_then(router, client, hello):
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=2) as runner:
        (assignment,) = await runner.assignments(1)
        assert (await client.executions.get(execution_id)).execution.retry is None
        await park(runner, assignment)
        found = (await client.executions.get(execution_id)).execution
        assert (found.status, found.error) == (Status.WAITING, None)
        assert (found.retry.error.status, found.retry.error.response.body) == (503, "down")
        assert (found.retry.tries, found.retry.others, found.retry.keys) == (2, 1, ())
        assert LATER - 60 < found.retry.next_at.timestamp() - time.time() <= LATER
        [listed] = [item async for item in client.executions.list()]
        assert listed.retry == found.retry._replace(error=found.retry.error.without_response())
        after = await client.executions.retry_now(execution_id)
        assert after.retry is None
        assert after.status in (Status.PENDING, Status.RUNNING)
        (again,) = await runner.assignments(1)
        *_, first, second = again.journal
        assert (first.key, second.key) == KEYS
        assert first.output == second.output
        assert abs(orjson.loads(first.output)["over"] / 1000 - time.time()) < 60
        assert again.attempt == 1  # it is not charged for having waited
        await runner.complete(again)
    assert (await client.executions.get(execution_id)).execution.retry is None


async def test_what_waits_for_no_retry_is_left_alone(router, client, hello):
    execution_id = await client.ingest("hello", {})

    async def is_refused():
        with pytest.raises(ConflictError, match="does not wait for a retry") as refused:
            await client.executions.retry_now(execution_id)
        assert refused.value.reason == "EXECUTION_NOT_RETRYING"

    await is_refused()
    async with attached(router, credit=3) as runner:
        (assignment,) = await runner.assignments(1)
        await is_refused()
        await park(runner, assignment)
        await client.executions.retry_now(execution_id)
        (assignment,) = await runner.assignments(1)
        await is_refused()
        await runner.park(assignment, time.time() + LATER)  # for something else now
        assert (await client.executions.get(execution_id)).execution.retry is None
        await is_refused()
        await client.executions.suspend(execution_id)
        await is_refused()
    await client.executions.cancel(execution_id)
    await is_refused()
    with pytest.raises(NotFoundError):
        await client.executions.retry_now("evt_00000000000000000000000000")


async def test_it_can_be_tried_at_once_after_a_restart_too(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        execution_id = await client.ingest("hello", {})
        async with attached(router, credit=1) as runner:
            (assignment,) = await runner.assignments(1)
            await park(runner, assignment)
    async with running_router(tmp_path) as router, router.client() as client:
        assert (await client.executions.get(execution_id)).execution.retry.tries == 2
        await client.executions.retry_now(execution_id)
        async with attached(router, credit=1) as runner:
            (again,) = await runner.assignments(1)
            assert [each.key for each in again.journal][-2:] == list(KEYS)


async def test_it_takes_the_scope_of_an_operator_and_is_audited(router, client, hello):
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        await park(runner, assignment)
    async with router.client("view") as viewer:
        with pytest.raises(PermissionDeniedError):
            await viewer.executions.retry_now(execution_id)
    await client.executions.retry_now(execution_id)
    [entry] = [each async for each in client.audit.list(target=execution_id)]
    assert (entry.action, entry.target) == ("ExecutionService/RetryExecutionNow", execution_id)


@pytest.mark.parametrize(
    "wrong",
    [{"retry_keys": ()}, {"retry_keys": ["k"] * 21}, {"retry_keys": ["k" * 65_536] * 3}, {"retry": retry(tries=0)}],
)
async def test_what_no_runner_says_of_a_retry_ends_its_stream(router, client, hello, wrong):
    await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await park(runner, assignment, **wrong)
        assert from_rpc_error(ended.value).reason == "ATTACH_PROTOCOL_VIOLATION"


async def numbers(client):
    [item] = (await client.flows.statistics("hello")).items
    return item.waiting, item.retrying


async def test_those_that_wait_for_another_try_are_counted_for_their_flow_after_a_restart_too(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        ids = [await client.ingest("hello", {}) for _ in range(4)]
        async with attached(router, credit=4) as runner:
            *failed, waits = await runner.assignments(4)
            for each in failed:
                await park(runner, each)
            await runner.park(waits, time.time() + LATER)
        assert await numbers(client) == (4, 3)
        await client.executions.retry_now(ids[0])
        await client.executions.cancel(ids[1])
        assert await numbers(client) == (2, 1)
    async with running_router(tmp_path) as router, router.client() as client:
        assert await numbers(client) == (2, 1)
        await client.executions.suspend(ids[2])
        assert await numbers(client) == (1, 0)


async def test_what_is_tried_at_once_does_not_wait_for_a_destination_any_more(router, client, hello):
    """Else it would be woken for a probe that it does not make, which holds up the others for minutes."""
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=2) as runner:
        (assignment,) = await runner.assignments(1)
        report = pb.CallReport(flow_id="hello", origin=ORIGIN, failures=5, cause="it answers 503")
        await runner.send(call_reports=pb.CallReports(reports=[report]))
        await park(runner, assignment, destinations=[ORIGIN])
        async with asyncio.timeout(PATIENCE):
            while await waiting(client) != [1]:
                await asyncio.sleep(0.01)
        await client.executions.retry_now(execution_id)
        (again,) = await runner.assignments(1)
        assert again.destination == ""
        assert await waiting(client) == [0]
        await runner.complete(again)


async def waiting(client):
    return [each.waiting async for each in client.incidents.list(open_only=True)]
