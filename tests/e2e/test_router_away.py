"""While the router is away, or full, senders are told so, operators too; when it is back everything goes on."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

import pytest
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
async def test_senders_get_503_and_operators_see_it_until_it_is_back(away):
    async with running_system("--runners", "1", router_timeout=0.5) as system:
        await system.apply(document("keep"))
        before = await system.send("keep", {"n": 1})
        assert await ready(system, 200)
        with away(system.cluster):
            for flow in ("keep", "never-asked-for"):
                refused_for_now(await system.send(flow, {"n": 2}), "ROUTER_UNAVAILABLE")
            assert (await system.admin("/healthz")).status == 200
            assert (await system.admin("/readyz")).status == 503
            assert (await system.admin("/health")).json["ready"] is False
            if away is router_down:
                command = await system.flowhook("flows", "list", "--router", system.cluster.grpc)
                assert (command.code, command.out) == (1, "")
                assert command.err.startswith("flowhook: can't reach the router at ")

        async def accepted():
            return (await system.send("keep", {"n": 3})).status == 202

        await until(accepted, "events are accepted again", within=10)
        await until(lambda: ready(system, 200), "the cluster is ready again", within=10)
        assert await system.completed(before.id) == {"n": 1}
        assert await system.completed((await system.send("keep", {"n": 4})).id) == {"n": 4}


async def test_a_full_backlog_of_all_flows_is_503_for_every_flow_until_there_is_room():
    async with running_system("--runners", "1", total_backlog=3) as system:
        await system.apply(document("one"), document("other"))
        await system.client.flows.pause("one")
        waiting = [await system.send("one", {"n": number}) for number in range(3)]
        for flow in ("one", "other"):
            refused_for_now(await system.send(flow, {}), "TOTAL_BACKLOG_FULL")
        await system.client.flows.resume("one")
        for number, answer in enumerate(waiting):
            assert await system.completed(answer.id) == {"n": number}
        assert (await system.send("other", {})).status == 202


async def test_a_full_storage_is_503_and_what_was_acknowledged_completes():
    async with running_system("--runners", "1", storage_max_bytes=2_000_000) as system:
        await system.apply(document("large", do="- keep: {set: {n: '${ .body.n }'}}"))
        await system.client.flows.pause("large")
        acknowledged = []
        while (answer := await system.send("large", {"n": len(acknowledged), "ballast": "x" * 50_000})).status == 202:
            acknowledged.append(answer.id)
            assert len(acknowledged) < 100
        refused_for_now(answer, "STORAGE_FULL")
        assert len(acknowledged) > 10
        assert len(await system.executions("large")) == len(acknowledged)
        await system.client.flows.resume("large")
        for number, execution_id in enumerate(acknowledged):
            assert await system.completed(execution_id) == {"n": number}
