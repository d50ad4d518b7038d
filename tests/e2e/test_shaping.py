"""Rates and concurrency by key hold, whatever is killed with -9 meanwhile; and nothing is lost."""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left
from collections import Counter

import orjson
import pytest
from support.outside import outside_world
from support.patience import PATIENCE
from support.systems import document, kill

from flowhook.model import Status
from flowhook.model.executions import LinkKind
from harness.cluster import running_cluster

pytestmark = pytest.mark.e2e

RATE = 50
WINDOW_MS = 2000
KEYS, LIMIT = 4, 2


class Target:
    """Counts, by key, the executions whose calls are under way."""

    def __init__(self):
        self.under_way, self.most = {}, Counter()

    async def answer(self, request):
        key = request.path.removeprefix("/")
        calls = self.under_way.setdefault(key, Counter())
        calls[request.key] += 1
        self.most[key] = max(self.most[key], len(calls))
        await asyncio.sleep(0.05)
        calls[request.key] -= 1
        calls += Counter()  # without those at 0
        self.under_way[key] = calls
        return 200, {}


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.1)


async def ended(client, flow, count):
    found = [execution async for execution in client.executions.list(flow_id=flow)]
    return sum(execution.status.ended for execution in found) >= count


async def test_a_rate_holds_in_every_window_while_runners_and_routers_are_killed():
    count = 500
    async with outside_world() as outside, running_cluster("--allow-private-addresses") as cluster:
        client = cluster.client
        do = f'- call: {{call: http, with: {{method: post, endpoint: "{outside.url}/called"}}}}'
        await client.flows.apply([document("paced", do=do, execution=f"{{rate: {{limit: {RATE}, per: PT1S}}}}")])
        await client.flows.pause("paced")
        sent = [await client.ingest("paced", {"n": n}) for n in range(count)]
        await client.flows.resume("paced")
        for calls, processes in ((80, ["runner-1"]), (180, ["router-1"]), (300, ["runner-1", "runner-2", "router-1"])):

            async def called(calls=calls):
                return len(outside.received) >= calls

            await until(called)
            await kill(cluster, *processes)
        await until(lambda: ended(client, "paced", count))
        details = [await client.executions.get(execution_id) for execution_id in sent]
        assert {each.execution.status for each in details} == {Status.COMPLETED}
        # by the router's own times, those of interrupted attempts included; a router that takes over a lease from a
        # runner does not know when it was assigned
        times = sorted(a.assign_time_ms for each in details for a in each.attempts if a.assign_time_ms is not None)
        assert len(times) > count * 0.8
        in_window = [bisect_left(times, at + WINDOW_MS) - place for place, at in enumerate(times)]
        assert max(in_window) <= RATE * WINDOW_MS / 1000 * 1.05


async def test_no_key_runs_more_executions_than_it_may_while_runners_and_routers_are_killed():
    count, target = 240, Target()
    async with outside_world(target.answer) as outside, running_cluster("--allow-private-addresses") as cluster:
        client = cluster.client
        do = (
            '- call: {call: http, with: {method: post, body: "${ .body }",'
            f' endpoint: "${{ \\"{outside.url}/\\\\(.body.key)\\" }}"}}}}'
        )
        keyed = f"{{concurrency: {{limit: {LIMIT}, key: '${{ .body.key }}'}}}}"
        await client.flows.apply([document("keyed", do=do, execution=keyed)])
        sent = [await client.ingest("keyed", {"key": f"k{n % KEYS}"}) for n in range(count)]
        for calls, processes in ((40, ["runner-1"]), (90, ["router-1"]), (150, ["runner-2", "router-1"])):

            async def called(calls=calls):
                return len(outside.received) >= calls

            await until(called)
            await kill(cluster, *processes)
        await until(lambda: ended(client, "keyed", count))
        statuses = {each.status async for each in client.executions.list(flow_id="keyed")}
        assert (len(sent), statuses) == (count, {Status.COMPLETED})
        assert set(target.most) == {f"k{n}" for n in range(KEYS)}
        assert max(target.most.values()) <= LIMIT


async def test_debounced_events_are_run_or_absorbed_once_while_routers_are_killed():
    async with outside_world() as outside, running_cluster("--allow-private-addresses") as cluster:
        client = cluster.client
        do = f'- call: {{call: http, with: {{method: post, endpoint: "{outside.url}/called"}}}}'
        debounced = "{debounce: {key: '${ .body.key }', period: PT0.4S}}"
        await client.flows.apply([document("debounced", do=do, execution=debounced)])
        sent = []
        for turn in range(4):
            sent += [await client.ingest("debounced", {"key": f"k{n % KEYS}"}) for n in range(60)]
            if turn < 3:
                await kill(cluster, *(["router-1"] if turn % 2 else ["router-1", "runner-1"]))
        await until(lambda: ended(client, "debounced", len(sent)))
        details = {execution_id: await client.executions.get(execution_id) for execution_id in sent}
        assert {each.execution.status for each in details.values()} == {Status.COMPLETED}
        absorbed = {execution_id: each.links.caused for execution_id, each in details.items() if each.links.caused}
        run = details.keys() - absorbed.keys()
        assert KEYS <= len(run) < len(sent) // 2
        for execution_id, links in absorbed.items():
            (link,) = links
            assert (link.kinds, link.id in run) == ((LinkKind.ABSORB,), True)
            assert details[execution_id].execution.attempts == 0
        called = {re.search(r"evt_[0-9a-z]{26}", request.key)[0] for request in outside.received}
        assert called == run


async def test_each_event_is_in_one_batch_while_routers_and_runners_are_killed():
    count, taken, bodies = 500, Counter(), {}

    async def answer(request):
        bodies.setdefault(request.key, set()).add(bytes(request.body))
        return 200, {}

    async with outside_world(answer) as outside, running_cluster("--allow-private-addresses") as cluster:
        client = cluster.client
        do = (
            f'- call: {{call: http, with: {{method: post, endpoint: "{outside.url}/called",'
            ' body: "${ map({id, n: .body.n}) }"}}'
        )
        batched = "{batch: {key: '${ .body.key }', size: 20, period: PT0.5S}}"
        await client.flows.apply([document("batched", do=do, execution=batched)])
        sent = []
        for turn in range(5):
            given = range(turn * 100, turn * 100 + 100)
            sent += await asyncio.gather(*(client.ingest("batched", {"key": f"k{n % KEYS}", "n": n}) for n in given))
            if turn < 4:
                await kill(cluster, *(["router-1"] if turn % 2 else ["router-1", "runner-1", "runner-2"]))
        await until(lambda: ended(client, "batched", count))
        details = {execution_id: await client.executions.get(execution_id) for execution_id in sent}
        assert {each.execution.status for each in details.values()} == {Status.COMPLETED}
        assert all(len(each) == 1 for each in bodies.values()), "an attempt had another input"
        ran = {}
        for key, (body,) in bodies.items():
            ids = [each["id"] for each in orjson.loads(body)]
            ran[re.search(r"evt_[0-9a-z]{26}", key)[0]] = ids
            taken.update(ids)
        assert taken == Counter(sent), "lost or doubled"
        assert len(ran) < count
        for execution_id, ids in ran.items():
            assert execution_id == ids[0]
            assert len({orjson.loads(details[each].event.body)["key"] for each in ids}) == 1
            for each in ids:
                found = details[each].execution
                expected = (execution_id, len(ids)) if len(ids) > 1 else ("", 0)
                assert (found.batch, found.batch_events) == expected
