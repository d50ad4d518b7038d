"""While the router is away, or full, senders are told so, operators too; when it is back everything goes on."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

import pytest
import pytest_asyncio
from support.systems import document, running_system, until

pytestmark = pytest.mark.e2e


@contextmanager
def router_down(cluster):
    """Kill the router, and keep the supervisor from starting another one until the block is left."""
    os.kill(cluster.supervisor.pid, signal.SIGSTOP)
    try:
        os.kill(cluster.pid("router-1"), signal.SIGKILL)
        yield
    finally:
        os.kill(cluster.supervisor.pid, signal.SIGCONT)


@contextmanager
def router_silent(cluster):
    """Stop the router in the middle of whatever it does."""
    pid = cluster.pid("router-1")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def refused_for_now(answer, reason):
    assert answer.status == 503, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["reason"] == reason
    assert int(answer.headers["Retry-After"]) >= 1
    return True


async def ready(system, status):
    answer = await system.admin("/readyz")
    return answer.status == status and answer.json["ready"] == (status == 200)


@pytest.mark.parametrize("away", [router_down, router_silent])
async def test_senders_get_503_and_operators_see_it_until_it_is_back(guarded, away):
    await guarded.apply(document("keep"))
    before = await guarded.send("keep", {"n": 1})
    assert await ready(guarded, 200)
    with away(guarded.cluster):
        for flow in ("keep", f"never-asked-for-{away.__name__[7:]}"):
            refused_for_now(await guarded.send(flow, {"n": 2}), "ROUTER_UNAVAILABLE")
        assert (await guarded.admin("/healthz")).status == 200
        assert (await guarded.admin("/readyz")).status == 503
        assert (await guarded.admin("/health")).json["ready"] is False
        if away is router_down:
            command = await guarded.flowhook("flows", "list", "--router", guarded.cluster.grpc)
            assert (command.code, command.out) == (1, "")
            assert command.err.startswith("flowhook: can't reach the router at ")

    async def accepted():
        return (await guarded.send("keep", {"n": 3})).status == 202

    await until(accepted, "events are accepted again")
    await until(lambda: ready(guarded, 200), "the cluster is ready again")
    assert await guarded.completed(before.id) == {"n": 1}
    assert await guarded.completed((await guarded.send("keep", {"n": 4})).id) == {"n": 4}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def limited():
    async with running_system("--runners", "1", total_backlog=50, storage_max_bytes=2_000_000) as system:
        yield system


async def test_a_full_backlog_of_all_flows_is_503_for_every_flow_until_there_is_room(limited):
    await limited.apply(document("one"), document("other"))
    await limited.client.flows.pause("one")
    waiting = [await limited.send("one", {"n": number}) for number in range(50)]
    for flow in ("one", "other"):
        refused_for_now(await limited.send(flow, {}), "TOTAL_BACKLOG_FULL")
    await limited.client.flows.resume("one")
    for number, answer in enumerate(waiting):
        assert await limited.completed(answer.id) == {"n": number}
    assert (await limited.send("other", {})).status == 202


async def test_a_full_storage_is_503_and_what_was_acknowledged_completes(limited):
    await limited.apply(document("large", do="- keep: {set: {n: '${ .body.n }'}}"))
    await limited.client.flows.pause("large")
    acknowledged = []
    while (answer := await limited.send("large", {"n": len(acknowledged), "ballast": "x" * 100_000})).status == 202:
        acknowledged.append(answer.id)
        assert len(acknowledged) < 50
    refused_for_now(answer, "STORAGE_FULL")
    assert len(acknowledged) > 5
    assert len(await limited.executions("large")) == len(acknowledged)
    await limited.client.flows.resume("large")
    for number, execution_id in enumerate(acknowledged):
        assert await limited.completed(execution_id) == {"n": number}
