"""Rates, concurrency by key, debouncing and batches hold, whatever is killed with -9; and nothing is lost."""

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

pytestmark = [pytest.mark.e2e, pytest.mark.release]

RATE = 50
WINDOW_MS = 2000
KEYS = [f"k{number}" for number in range(4)]
LIMIT = 2
EVENTS = 240
"""Events of the flow with a rate, and of that with a limit for each key; both make about as many calls a second."""
BURST = 100
"""Events of the flows that are debounced and batched, before each kill and after the last one."""
KILLS = ((50, ["runner-1"]), (100, ["router-1"]), (150, ["runner-1", "runner-2", "router-1"]))
"""What is killed when the two flows have made so many calls each."""


class Target:
    """Counts, by key, the executions whose calls are under way."""

    def __init__(self):
        self.under_way, self.most = {}, Counter()

    async def answer(self, request):
        flow, key = request.path.strip("/").split("/")
        if flow == "keyed":
            calls = self.under_way.setdefault(key, Counter())
            calls[request.key] += 1
            self.most[key] = max(self.most[key], len(calls))
            await asyncio.sleep(0.15)
            calls[request.key] -= 1
            calls += Counter()  # without those at 0
            self.under_way[key] = calls
        return 200, {}


def flow(name, url, execution, key=".body.key", body=".body"):
    endpoint = f'"${{ \\"{url}/{name}/\\\\({key})\\" }}"'
    do = f'- call: {{call: http, with: {{method: post, body: "${{ {body} }}", endpoint: {endpoint}}}}}'
    return document(name, do=do, execution=execution)


def execution_of(request):
    return re.search(r"evt_[0-9a-z]{26}", request.key)[0]


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.1)


def check_rate(details):
    """Check it by the router's own times, those of interrupted attempts included.

    A router that takes over a lease from a runner does not know when it was assigned.
    """
    attempts = [attempt for each in details.values() for attempt in each.attempts]
    times = sorted(attempt.assign_time_ms for attempt in attempts if attempt.assign_time_ms is not None)
    assert len(times) > EVENTS * 0.8
    in_window = [bisect_left(times, at + WINDOW_MS) - place for place, at in enumerate(times)]
    assert max(in_window) <= RATE * WINDOW_MS / 1000 * 1.05


def check_debounced(details, requests):
    absorbed = {execution_id: each for execution_id, each in details.items() if each.links.caused}
    run = details.keys() - absorbed.keys()
    assert len(KEYS) <= len(run) < len(details) // 2
    for each in absorbed.values():
        (link,) = each.links.caused
        assert (link.kinds, link.id in run) == ((LinkKind.ABSORB,), True)
        assert each.execution.attempts == 0
    assert {execution_of(request) for request in requests} == run


def check_batches(details, requests):
    inputs = {}
    for request in requests:
        inputs.setdefault(execution_of(request), set()).add(request.body)
    assert all(len(each) == 1 for each in inputs.values()), "an attempt had another input"
    ran = {execution_id: [each["id"] for each in orjson.loads(body)] for execution_id, (body,) in inputs.items()}
    assert Counter(event_id for ids in ran.values() for event_id in ids) == Counter(details.keys()), "lost or doubled"
    assert len(ran) < len(details)
    for execution_id, ids in ran.items():
        assert execution_id == ids[0]
        assert len({orjson.loads(details[each].event.body)["key"] for each in ids}) == 1
        for each in ids:
            found = details[each].execution
            assert (found.batch, found.batch_events) == ((execution_id, len(ids)) if len(ids) > 1 else ("", 0))


async def test_what_shapes_executions_holds_while_runners_and_routers_are_killed():
    target = Target()
    async with outside_world(target.answer) as outside, running_cluster("--allow-private-addresses") as cluster:
        client = cluster.client

        async def send(name, count):
            bodies = ({"key": KEYS[n % len(KEYS)], "n": n} for n in range(count))
            return await asyncio.gather(*(client.ingest(name, body) for body in bodies))

        async def ended(name, count):
            found = [execution async for execution in client.executions.list(flow_id=name)]
            return sum(execution.status.ended for execution in found) >= count

        def calls(name):
            return [request for request in outside.received if request.path.startswith(f"/{name}/")]

        await client.flows.apply(
            [
                flow("paced", outside.url, f"{{rate: {{limit: {RATE}, per: PT1S}}}}"),
                flow("keyed", outside.url, f"{{concurrency: {{limit: {LIMIT}, key: '${{ .body.key }}'}}}}"),
                flow("debounced", outside.url, "{debounce: {key: '${ .body.key }', period: PT1S}}"),
                flow(
                    "batched",
                    outside.url,
                    "{batch: {key: '${ .body.key }', size: 20, period: PT1S}}",
                    key=".[0].body.key",
                    body="map({id, n: .body.n})",
                ),
            ]
        )
        for name in ("paced", "keyed"):
            await client.flows.pause(name)
        paced, keyed = await send("paced", EVENTS), await send("keyed", EVENTS)
        for name in ("paced", "keyed"):
            await client.flows.resume(name)
        debounced, batched = [], []
        for number, processes in KILLS:
            debounced += await send("debounced", BURST)
            batched += await send("batched", BURST)

            async def called(number=number):
                return min(len(calls("paced")), len(calls("keyed"))) >= number

            await until(called)
            await kill(cluster, *processes)
        debounced += await send("debounced", BURST)
        batched += await send("batched", BURST)
        details = {}
        for name, sent in (("paced", paced), ("keyed", keyed), ("debounced", debounced), ("batched", batched)):
            await until(lambda name=name, sent=sent: ended(name, len(sent)))
            details[name] = {execution_id: await client.executions.get(execution_id) for execution_id in sent}
            assert {each.execution.status for each in details[name].values()} == {Status.COMPLETED}
    check_rate(details["paced"])
    assert target.most.keys() == set(KEYS)
    assert max(target.most.values()) <= LIMIT
    check_debounced(details["debounced"], calls("debounced"))
    check_batches(details["batched"], calls("batched"))
