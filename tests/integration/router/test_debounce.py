"""Debouncing, from the flow file to the runner: all events are acknowledged and kept, one of them runs."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from support.patience import PATIENCE
from support.routers import flow, running_router
from support.runners import attached

from flowhook.errors import ConflictError, InvalidFlowError
from flowhook.model import ShapedBy, Status
from flowhook.model.executions import LinkKind

SOON = b"execution: {debounce: {key: '${ .doc }', period: PT0.3S}}\n"
LATER = SOON.replace(b"PT0.3S", b"PT1H")


def ids_of(assignments):
    return [assignment.event[2:32].decode() for assignment in assignments]


async def ingest_together(client, *bodies, soon=SOON):
    """Send events of one group, however long each takes: its period is short from the last one on."""
    await client.flows.apply([flow("saved", soon.replace(b"PT0.3S", b"PT1H"))])
    sent = [await client.ingest("saved", body) for body in bodies[:-1]]
    await client.flows.apply([flow("saved", soon)])
    return [*sent, await client.ingest("saved", bodies[-1])]


async def until_ended(client, execution_id):
    async with asyncio.timeout(PATIENCE):
        while not (found := await client.executions.get(execution_id)).execution.status.ended:
            await asyncio.sleep(0.02)
    return found


async def test_one_of_several_events_runs_and_names_the_others_which_name_it(router, client):
    first, second, last = await ingest_together(client, *({"doc": 7, "n": n} for n in range(3)))
    async with attached(router, credit=10) as runner:
        (assignment,) = await runner.assignments(1)
        assert ids_of([assignment]) == [last]
        for absorbed in (first, second):
            found = await until_ended(client, absorbed)
            assert (found.execution.status, found.output, found.execution.attempts) == (Status.COMPLETED, b"null", 0)
            assert orjson.loads(found.event.body)["doc"] == 7
            ((link,), ()) = (found.links.caused, found.links.causes)
            assert (link.id, link.kinds) == (last, (LinkKind.ABSORB,))
        links = (await client.executions.get(last)).links
        assert {(each.id, each.kinds) for each in links.causes} == {
            (first, (LinkKind.ABSORB,)),
            (second, (LinkKind.ABSORB,)),
        }
        await runner.complete(assignment)
        assert (await until_ended(client, last)).execution.status is Status.COMPLETED


async def test_the_first_is_run_where_the_flow_says_so_and_events_without_a_key_are_run_each(router, client):
    taking_first = SOON.replace(b"PT0.3S", b"PT0.3S, take: first")
    first, _ = await ingest_together(client, {"doc": 7}, {"doc": 7}, soon=taking_first)
    others = [await client.ingest("saved", {}) for _ in range(2)]
    async with attached(router, credit=10) as runner:
        assert sorted(ids_of(await runner.assignments(3))) == sorted([first, *others])


async def test_what_waits_is_pending_and_says_until_when(router, client):
    await client.flows.apply([flow("saved", LATER)])
    waiting = await client.ingest("saved", {"doc": 7})
    execution = (await client.executions.get(waiting)).execution
    assert (execution.status, execution.turn.by) == (Status.PENDING, ShapedBy.DEBOUNCE)
    assert execution.turn.expect_time_ms - execution.receive_time_ms == pytest.approx(3_600_000, abs=60_000)


async def test_it_goes_on_after_a_restart_as_if_there_had_been_none(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("saved", LATER)])
        sent = [await client.ingest("saved", {"doc": 7}) for _ in range(3)]
    async with running_router(tmp_path) as router, router.client() as client:
        sent += [await client.ingest("saved", {"doc": 7}) for _ in range(2)]
        other = await client.ingest("saved", {"doc": 8})
        async with attached(router, credit=10) as runner:
            for execution_id in sent[1:3]:
                await client.executions.cancel(execution_id)
            with pytest.raises(ConflictError):
                await client.executions.cancel(sent[1])
            await client.flows.apply([flow("saved", SOON)])
            # another period counts for those that wait from the next event on
            sent.append(await client.ingest("saved", {"doc": 7}))
            (assignment,) = await runner.assignments(1)
            assert ids_of([assignment]) == [sent[-1]]
            links = (await client.executions.get(sent[-1])).links
            assert {each.id for each in links.causes} == {sent[0], *sent[3:5]}
            assert (await client.executions.get(other)).execution.status is Status.PENDING
    async with running_router(tmp_path) as router, router.client() as client, attached(router, credit=10) as runner:
        assert sorted(ids_of(await runner.assignments(2))) == sorted([sent[-1], other])


async def test_what_was_resumed_runs_by_itself_after_a_restart_too(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("saved", LATER)])
        resumed, other = [await client.ingest("saved", {"doc": 7}) for _ in range(2)]
        await client.executions.suspend(resumed)
        await client.executions.resume(resumed)
        assert (await client.executions.get(resumed)).execution.turn is None
    async with running_router(tmp_path) as router, router.client() as client:
        assert (await client.executions.get(other)).execution.turn.by == ShapedBy.DEBOUNCE
        assert (await client.executions.get(resumed)).execution.turn is None
        async with attached(router, credit=10) as runner:
            assert ids_of(await runner.assignments(1)) == [resumed]


async def test_a_replay_runs_whatever_else_comes(router, client):
    first, last = await ingest_together(client, {"doc": 7}, {"doc": 7})
    await until_ended(client, first)
    await client.flows.apply([flow("saved", LATER)])
    async with attached(router, credit=10) as runner:
        replay = await client.executions.replay(first)
        assert sorted(ids_of(await runner.assignments(2))) == sorted([last, replay.id])


async def test_senders_that_wait_for_a_reply_are_not_debounced(client):
    webhook = b"webhook: {auth: none, respond: {mode: reply}}\n"
    with pytest.raises(InvalidFlowError) as caught:
        await client.flows.apply([flow("asked", webhook + SOON)])
    assert "no reply" in str(caught.value)
