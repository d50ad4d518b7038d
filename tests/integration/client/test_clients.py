"""Both clients against a real router: the whole surface, and every error that is promised."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support.clients import Either, close
from support.patience import PATIENCE
from support.routers import flow
from support.runners import attached

from flowhook.client import ExecutionFailedError, ReplyPendingError
from flowhook.errors import (
    ConflictError,
    InvalidError,
    InvalidFlowError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from flowhook.events import ids
from flowhook.model import Change, Status
from flowhook.model.replays import ReplayOptions
from flowhook.v1 import failure_pb2, runner_service_pb2


async def test_flows_are_applied_read_paused_and_deleted(client):
    (created,) = await client("flows.apply", [flow("hello")])
    assert (created.flow.id, created.change, created.warnings) == ("hello", Change.CREATED, ())
    (unchanged,) = await client("flows.apply", [flow("hello")])
    assert unchanged.change is Change.UNCHANGED
    stored = await client("flows.get", "hello")
    assert (stored.document, stored.revision, stored.paused) == (flow("hello"), 1, False)
    assert (await client("flows.pause", "hello")).paused
    assert not (await client("flows.resume", "hello")).paused
    await client("flows.delete", "hello")
    assert await client("flows.list") == []


async def test_a_dry_run_changes_nothing(client):
    (result,) = await client("flows.apply", [flow("hello")], dry_run=True)
    assert result.change is Change.CREATED
    assert await client("flows.list") == []


async def test_a_list_longer_than_a_page_is_complete_and_in_order(client, monkeypatch):
    for kind in ("aio", "sync"):
        monkeypatch.setattr(f"flowhook.client.{kind}.transport.PAGE_SIZE", 2)
    await client("flows.apply", [flow(name) for name in "edcba"])
    assert [item.id for item in await client("flows.list")] == list("abcde")
    sent = [await client("ingest", "a", {}) for _ in range(5)]
    assert [item.id for item in await client("executions.list")] == sent[::-1]
    assert [item.id for item in await client("executions.list", limit=3)] == sent[:1:-1]
    assert await client("executions.list", statuses=[Status.FAULTED]) == []


async def test_a_bad_document_is_refused_with_every_fault_and_nothing_is_stored(client):
    with pytest.raises(InvalidFlowError) as caught:
        await client("flows.apply", [flow("good"), flow("bad", b"unknown: 1\n"), b"do: 5"])
    assert {fault.file for fault in caught.value.faults} == {"1", "2"}
    assert await client("flows.list") == []


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("flows.get", ["no"]),
        ("flows.pause", ["no"]),
        ("flows.resume", ["no"]),
        ("flows.delete", ["no"]),
        ("secrets.delete", ["no"]),
        ("executions.get", [ids.mint(0)]),
        ("executions.body", [ids.mint(0)]),
        ("executions.replay", [ids.mint(0)]),
        ("executions.cancel", [ids.mint(0)]),
        ("executions.suspend", [ids.mint(0)]),
        ("executions.resume", [ids.mint(0)]),
        ("ingest", ["no", {}]),
        ("invoke", ["no", {}]),
    ],
)
async def test_what_is_not_there_is_not_found(client, method, arguments):
    with pytest.raises(NotFoundError):
        await client(method, *arguments)


async def test_secrets_are_set_listed_resolved_for_their_flow_and_deleted(client):
    webhook = b"webhook: {auth: {github: {secret: token}}}\n"
    (applied,) = await client("flows.apply", [flow("hello", webhook)])
    assert "token" in applied.warnings[0]
    await client("secrets.set", "token", b"s3cr3t")
    assert [secret.name for secret in await client("secrets.list")] == ["token"]
    assert await client("secrets.resolve", ["token"], flow_id="hello") == {"token": b"s3cr3t"}
    await client("secrets.delete", "token")
    assert await client("secrets.list") == []


@pytest.mark.parametrize(
    ("body", "stored"),
    [(b"\x00\xff", b"\x00\xff"), ("grün", "grün".encode()), ({"a": [1]}, b'{"a":[1]}'), ([], b"[]")],
    ids=["bytes", "text", "object", "list"],
)
async def test_an_event_arrives_as_it_was_handed_in(client, body, stored):
    await client("flows.apply", [flow("hello")])
    execution_id = await client("ingest", "hello", body, "text/plain", [("X-One", "1"), ("X-One", b"\xff")])
    event = (await client("executions.get", execution_id)).event
    assert event.id == execution_id
    assert (event.flow_id, event.method, event.content_type, event.body) == ("hello", "POST", "text/plain", stored)
    assert event.headers == (("x-one", b"1"), ("x-one", b"\xff"))


async def test_a_body_is_given_a_piece_at_a_time(client):
    await client("flows.apply", [flow("hello")])
    body = bytes(range(256)) * 2000
    execution_id = await client("ingest", "hello", body, "image/png")
    pieces = await client("executions.body", execution_id)
    assert b"".join(pieces) == body
    assert len(pieces) > 1


async def test_a_body_that_is_no_json_is_refused_here(client):
    with pytest.raises(InvalidError):
        await client("ingest", "hello", {"a": object()})


async def test_the_same_event_or_dedupe_key_is_one_execution(client):
    await client("flows.apply", [flow("hello")])
    event_id = ids.mint(ids.slot_of("hello"))
    assert await client("ingest", "hello", {}, event_id=event_id) == event_id
    assert await client("ingest", "hello", {}, event_id=event_id) == event_id
    assert len(await client("executions.list")) == 1


async def test_invoke_returns_the_answer_of_the_flow(client, router):
    await client("flows.apply", [flow("hello")])
    async with attached(router, credit=1) as runner:
        answer = asyncio.create_task(client("invoke", "hello", {"a": 1}))
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment, b'{"sum":2}')
        reply = await answer
    assert (reply.status, reply.body) == (200, b'{"sum":2}')


async def test_invoke_raises_what_the_execution_faulted_with(client, router):
    await client("flows.apply", [flow("hello")])
    async with attached(router, credit=1) as runner:
        answer = asyncio.create_task(client("invoke", "hello", {}))
        (assignment,) = await runner.assignments(1)
        error = failure_pb2.WorkflowError(type="about:x", status=500, title="Broken", detail="here")
        await runner.settle(runner_service_pb2.Outcome(lease=assignment.lease, faulted=error))
        with pytest.raises(ExecutionFailedError, match="Broken: here") as caught:
            await answer
    assert caught.value.error.type == "about:x"
    assert (await client("executions.get", caught.value.execution_id)).execution.status is Status.FAULTED


async def test_invoke_that_takes_too_long_names_the_execution_which_goes_on(client, router):
    await client("flows.apply", [flow("hello")])
    with pytest.raises(ReplyPendingError) as caught:
        await client("invoke", "hello", {}, timeout=0.05)
    async with attached(router, credit=1) as runner:
        again = asyncio.create_task(client("invoke", "hello", {}, event_id=caught.value.execution_id))
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment, b"7")
        assert (await again).body == b"7"


async def test_invoke_waits_longer_than_one_call_may(client, router, monkeypatch):
    for kind in ("aio", "sync"):
        monkeypatch.setattr(f"flowhook.client.{kind}.client.MAX_WAIT_SECONDS", 0.05)
    await client("flows.apply", [flow("hello")])
    async with attached(router, credit=1) as runner:
        answer = asyncio.create_task(client("invoke", "hello", {}, timeout=10))
        (assignment,) = await runner.assignments(1)
        await asyncio.wait({answer}, timeout=0.2)  # several calls of 50 ms
        assert not answer.done()
        await runner.complete(assignment, b"7")
        assert (await answer).body == b"7"


async def test_an_execution_is_replayed_once_it_has_ended_and_cancelled_until_then(client, router):
    await client("flows.apply", [flow("hello")])
    execution_id = await client("ingest", "hello", {})
    with pytest.raises(ConflictError):
        await client("executions.replay", execution_id)
    assert (await client("executions.cancel", execution_id)).status is Status.CANCELLED
    with pytest.raises(ConflictError):
        await client("executions.cancel", execution_id)
    first = await client("executions.replay", execution_id, request_id="k")
    second = await client("executions.replay", execution_id, ReplayOptions(latest=True), request_id="k")
    assert first.id == second.id
    assert first.replay_of == execution_id


async def test_an_execution_is_suspended_and_resumed_until_it_has_ended(client):
    await client("flows.apply", [flow("hello")])
    execution_id = await client("ingest", "hello", {})
    with pytest.raises(ConflictError):
        await client("executions.resume", execution_id)
    assert (await client("executions.suspend", execution_id)).status is Status.SUSPENDED
    assert (await client("executions.suspend", execution_id)).status is Status.SUSPENDED
    assert (await client("executions.resume", execution_id)).status is Status.PENDING
    await client("executions.cancel", execution_id)
    with pytest.raises(ConflictError):
        await client("executions.suspend", execution_id)
    assert (await client("executions.replay", execution_id, ReplayOptions(from_failed=True))).replay_of == execution_id


async def test_the_cluster_lists_the_router(client):
    (process,) = await client("cluster.processes")
    assert (process.name, process.role, process.ready) == ("router-1", "router", True)
    assert b"flowhook_events_accepted_total" in process.metrics


async def test_a_token_without_the_scope_is_denied(router, kind):
    client = kind(router.target, token=router.token("edge"))
    with pytest.raises(PermissionDeniedError, match="scope"):
        await Either(client)("flows.list")
    await close(client)


async def test_a_wrong_token_is_not_authenticated_and_not_repeated(router, kind):
    client = kind(router.target, token="fhk_wrong")
    with pytest.raises(UnauthenticatedError) as caught:
        await Either(client)("flows.list")
    assert "fhk_wrong" not in str(caught.value)
    await close(client)


async def test_a_watch_reports_every_change_from_its_first_message_on(router):
    async with router.client() as client:
        await client.flows.apply([flow("hello"), flow("other")])
        async with contextlib.aclosing(client.executions.watch(flow_id="hello")) as changes:
            assert await anext(changes) is None
            await client.ingest("other", {})
            execution_id = await client.ingest("hello", {})
            await client.executions.cancel(execution_id)
            async with asyncio.timeout(PATIENCE):
                while (change := await anext(changes)).execution.status is not Status.CANCELLED:
                    assert change.execution.flow_id == "hello"
        assert change.execution.id == execution_id
