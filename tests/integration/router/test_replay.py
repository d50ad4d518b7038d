"""Replays: of what was deleted, of what is large, and each asked for once."""

from __future__ import annotations

import pytest
from support.routers import flow
from support.runners import attached

from flowhook import limits
from flowhook.errors import InvalidError, NotFoundError
from flowhook.model import Status


async def run(router, count=1):
    async with attached(router, credit=count) as runner:
        assignments = await runner.assignments(count)
        for assignment in assignments:
            await runner.complete(assignment)
    return assignments


async def test_an_execution_of_a_deleted_flow_is_replayed_on_the_revision_it_ran(router, client):
    await client.flows.apply([flow("hello")])
    execution_id = await client.ingest("hello", {})
    await run(router)
    await client.flows.delete("hello")
    with pytest.raises(NotFoundError):
        await client.executions.replay(execution_id, latest=True)
    replay = await client.executions.replay(execution_id)
    (assignment,) = await run(router)
    assert (replay.flow_revision, assignment.flow_revision) == (1, 1)
    assert (await client.flows.get("hello", revision=1)).revision == 1
    assert (await client.executions.get(replay.id)).execution.status is Status.COMPLETED


async def test_a_replay_runs_the_latest_revision_when_asked_to(router, client):
    await client.flows.apply([flow("hello")])
    execution_id = await client.ingest("hello", {})
    await run(router)
    await client.flows.apply([flow("hello", b"execution: {concurrency: 1}\n")])
    await client.executions.replay(execution_id)
    await client.executions.replay(execution_id, latest=True)
    revisions = []
    async with attached(router, credit=1) as runner:
        for _ in range(2):
            (assignment,) = await runner.assignments(1)
            revisions.append(assignment.flow_revision)
            await runner.complete(assignment)
            await runner.credit(1)
    assert revisions == [1, 2]


async def test_a_large_body_is_replayed_byte_for_byte_also_when_the_original_is_gone(router, client):
    await client.flows.apply([flow("hello")])
    body = bytes(range(256)) * (limits.DEFAULT_BODY_BYTES // 256)
    execution_id = await client.ingest("hello", body, content_type="application/octet-stream")
    await run(router)
    replay = await client.executions.replay(execution_id)
    assert (await client.executions.get(replay.id)).event.body == body
    (assignment,) = await run(router)
    assert body in assignment.event


async def test_one_request_id_starts_one_replay_of_each_execution(router, client):
    await client.flows.apply([flow("hello")])
    originals = [await client.ingest("hello", {}) for _ in range(2)]
    await run(router, 2)
    replays = [await client.executions.replay(each, request_id="bulk") for each in [*originals, *originals]]
    assert [replay.replay_of for replay in replays] == [*originals, *originals]
    assert len({replay.id for replay in replays}) == 2


async def test_a_request_id_is_short_and_ascii(router, client):
    await client.flows.apply([flow("hello")])
    execution_id = await client.ingest("hello", {})
    for request_id in ("x" * 65, "é"):
        with pytest.raises(InvalidError):
            await client.executions.replay(execution_id, request_id=request_id)
