"""Numbers of flows: counts by minute, what is pending, the state of their secrets; also after a restart."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from support.patience import PATIENCE
from support.routers import flow, running_router
from support.runners import attached

from flowhook.client import channel
from flowhook.errors import NotFoundError, PermissionDeniedError
from flowhook.model.flows import FlowCondition
from flowhook.v1 import envelope_pb2, ingest_service_pb2
from flowhook.v1.ingest_service_pb2_grpc import IngestServiceStub
from router.secrets import flow_secrets

AUTH = b"""
webhook:
  auth: {hmac: {secrets: [fresh, stale], header: X-Signature}}
use: {secrets: [token, fresh]}
"""


async def numbers(client, flow_id):
    page = await client.flows.statistics(flow_id)
    return page.items[0]


@asynccontextmanager
async def edge(router):
    """Call as an edge does, which says which secret matched."""
    async with channel.connect(router.target, router.token("edge")) as connection:
        stub = IngestServiceStub(connection)

        async def send(flow_id, secret):
            event = envelope_pb2.Event(flow_id=flow_id, method="GET")
            event.principal.scheme, event.principal.secret = "hmac", secret
            [result] = (await stub.IngestEvents(ingest_service_pb2.IngestEventsRequest(events=[event]))).results
            assert result.HasField("accepted"), result

        yield send


async def until(condition):
    """Wait for what happens by itself."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_a_flow_shows_what_it_accepted_and_what_became_of_it(router, client):
    await client.flows.apply([flow("shop")])
    idle = await numbers(client, "shop")
    assert (idle.pending, idle.oldest_pending_time_ms, idle.last_event_time_ms, sum(idle.accepted)) == (
        0,
        None,
        None,
        0,
    )
    first = await client.executions.get(await client.ingest("shop", {}))
    last = await client.executions.get([await client.ingest("shop", {}) for _ in range(4)][-1])
    before = await numbers(client, "shop")
    assert (before.pending, before.running, sum(before.accepted)) == (5, 0, 5)
    assert before.oldest_pending_time_ms == first.execution.receive_time_ms
    assert before.last_event_time_ms == last.execution.receive_time_ms
    async with attached(router, credit=4) as runner:
        done, broken, parks, _ = await runner.assignments(4)
        assert [(now := await numbers(client, "shop")).pending, now.running] == [1, 4]
        await runner.complete(done)
        await runner.fault(broken)
        await runner.park(parks)
        await until(lambda: is_waiting(client))
        await client.executions.suspend(last.execution.id)
        after = await numbers(client, "shop")
    assert (after.pending, after.running, after.waiting, after.suspended) == (0, 1, 1, 1)
    assert [sum(after.accepted), sum(after.completed), sum(after.faulted)] == [5, 1, 1]
    assert after.oldest_pending_time_ms is None


async def is_waiting(client):
    now = await numbers(client, "shop")
    return now.waiting == 1 and sum(now.completed) == sum(now.faulted) == 1


async def test_after_a_restart_the_numbers_are_right_at_once_and_the_last_hour_soon(tmp_path):
    async with running_router(tmp_path / "data") as router, router.client() as client:
        await client.flows.apply([flow("shop"), flow("bank")])
        for _ in range(3):
            await client.ingest("shop", {})
        async with attached(router, credit=1) as runner:
            await runner.complete((await runner.assignments(1))[0])
        before = await numbers(client, "shop")
    async with running_router(tmp_path / "data") as router, router.client() as client:
        now = await numbers(client, "shop")
        assert (now.pending, now.oldest_pending_time_ms, now.last_event_time_ms) == (
            2,
            before.oldest_pending_time_ms,
            before.last_event_time_ms,
        )

        async def counted():
            now = await numbers(client, "shop")
            return (sum(now.accepted), sum(now.completed)) == (3, 1)

        await until(counted)
        page = await client.flows.statistics("shop")
        await client.ingest("shop", {})
        assert sum((await numbers(client, "shop")).accepted) == 4
        assert page.since_ms <= before.oldest_pending_time_ms


async def test_pages_are_those_of_the_list_and_can_be_filtered(client):
    names = sorted([*(f"flow-{number:02}" for number in range(7)), "other", "shop"])
    await client.flows.apply([flow(name) for name in names])
    await client.flows.pause("flow-03")
    await client.flows.pause("shop")
    found, token = [], ""
    while True:
        page = await client.flows.statistics_page(page_size=4, page_token=token)
        found += [item.flow.id for item in page.items]
        if not (token := page.next_page_token):
            break
    assert found == names
    assert all(len(item.accepted) == 60 for item in page.items)
    matching = await client.flows.statistics_page(name_contains="o")
    assert [item.flow.id for item in matching.items] == names
    matching = await client.flows.statistics_page(name_contains="flow-", condition=FlowCondition.PAUSED)
    assert ([item.flow.id for item in matching.items], matching.next_page_token) == (["flow-03"], "")
    assert (await client.flows.statistics_page(condition=FlowCondition.FAILING)).items == []


async def test_secrets_show_whether_they_are_missing_and_which_matched_last(router, client):
    await client.flows.apply([flow("signed", AUTH), flow("open")])
    await client.secrets.set("stale", b"s")
    secrets = {secret.name: secret for secret in (await numbers(client, "signed")).secrets}
    assert {name: (each.missing, each.verifies, each.expressions) for name, each in secrets.items()} == {
        "fresh": (True, True, True),
        "stale": (False, True, False),
        "token": (True, False, True),
    }
    assert not any(secret.match_time_ms or secret.latest_match for secret in secrets.values())
    page = await client.flows.statistics_page(condition=FlowCondition.NEEDS_SECRET)
    assert [(item.flow.id, item.missing_secrets) for item in page.items] == [("signed", ("fresh", "token"))]
    async with edge(router) as send:
        await send("signed", "stale")
    item = await numbers(client, "signed")
    assert [secret.latest_match for secret in item.secrets] == [False, True, False]
    assert item.secrets[1].match_time_ms
    await client.secrets.set("fresh", b"f")
    await client.secrets.set("token", b"t")
    assert (await numbers(client, "signed")).missing_secrets == ()


async def test_a_changed_flow_names_other_secrets(client):
    await client.flows.apply([flow("signed", AUTH)])
    assert len((await numbers(client, "signed")).secrets) == 3
    await client.flows.apply([flow("signed", b"use: {secrets: [token]}\n")])
    assert [secret.name for secret in (await numbers(client, "signed")).secrets] == ["token"]


async def test_each_secret_shows_the_flows_that_name_it_and_missing_ones_are_listed(router, client):
    await client.flows.apply([flow("signed", AUTH), flow("other", AUTH), flow("open")])
    await client.secrets.set("stale", b"s")
    await client.secrets.set("unused", b"u")
    async with edge(router) as send:
        await send("signed", "stale")
        await send("signed", "forged" * 100)
        await send("signed", "")
    uses = await client.secrets.uses()
    assert [(use.name, use.updated_at is None, use.user_count) for use in uses.secrets] == [
        ("stale", False, 2),
        ("unused", False, 0),
        ("fresh", True, 2),
        ("token", True, 2),
    ]
    stale = uses.secrets[0]
    assert [user.flow_id for user in stale.users] == ["signed", "other"]
    assert [user.latest_match for user in stale.users] == [True, False]
    assert uses.matches_since_ms <= stale.match_time_ms == stale.users[0].match_time_ms


async def test_of_many_flows_that_name_a_secret_those_with_the_latest_matches_are_listed(router, client, monkeypatch):
    monkeypatch.setattr(flow_secrets, "MAX_USERS", 2)
    names = [f"user-{number}" for number in range(9)]
    await client.flows.apply([flow(name, AUTH) for name in names])
    async with edge(router) as send:
        await send("user-3", "stale")
        await send("user-7", "stale")
    [use] = [use for use in (await client.secrets.uses()).secrets if use.name == "stale"]
    assert (use.user_count, {user.flow_id for user in use.users}) == (9, {"user-3", "user-7"})
    [token] = [use for use in (await client.secrets.uses()).secrets if use.name == "token"]
    assert (token.user_count, [user.flow_id for user in token.users]) == (9, names[:2])


async def test_of_many_secrets_fewer_flows_are_listed_of_each(client, monkeypatch):
    monkeypatch.setattr(flow_secrets, "MAX_ALL_USERS", 6)
    await client.flows.apply([flow(name, AUTH) for name in ("a", "b", "c")])
    uses = (await client.secrets.uses()).secrets
    assert [(use.user_count, [user.flow_id for user in use.users]) for use in uses] == [(3, ["a", "b"])] * 3
    monkeypatch.setattr(flow_secrets, "MAX_ALL_USERS", 1)
    assert [len(use.users) for use in (await client.secrets.uses()).secrets] == [1, 1, 1]


async def test_an_unknown_flow_has_no_numbers(client):
    with pytest.raises(NotFoundError):
        await client.flows.statistics("nobody")


async def test_viewers_may_read_the_numbers_and_edges_may_not(router, client):
    await client.flows.apply([flow("shop")])
    async with router.client("view") as viewer:
        assert [item.flow.id for item in (await viewer.flows.statistics_page()).items] == ["shop"]
        assert (await viewer.flows.statistics("shop")).items
        assert (await viewer.secrets.uses()).secrets == ()
    async with router.client("edge") as other:
        with pytest.raises(PermissionDeniedError):
            await other.flows.statistics_page()
