"""Nothing accepted is lost, and nothing journaled is done twice, whatever is killed with -9 under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections import defaultdict

import aiohttp
import pytest
from support.outside import outside_world
from support.patience import PATIENCE
from support.supervisors import alive
from support.systems import kill

from flowhook.model import Status
from harness.cluster import running_cluster

pytestmark = pytest.mark.e2e

SENDERS = 8
STEPS = 3

FLOW = """
document: {{dsl: 1.0.3, namespace: default, name: crash, version: 1.0.0}}
webhook: {{auth: none}}
do:
  - number: {{set: {{number: "${{ .body.number }}"}}}}
  - first: {{call: http, with: {{method: post, endpoint: "{url}/1", body: {{n: "${{ .number }}"}}}}}}
  - second: {{call: http, with: {{method: post, endpoint: "{url}/2", body: {{previous: "${{ . }}"}}}}}}
  - third: {{call: http, with: {{method: post, endpoint: "{url}/3", body: {{previous: "${{ . }}"}}}}}}
  - done: {{set: {{done: true}}}}
"""


class Senders:
    """Senders that post events one after another, and remember which were acknowledged."""

    def __init__(self, url):
        self.url = url
        self.acknowledged: list[str] = []
        self._progress = asyncio.Event()

    async def run(self):
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
            await asyncio.gather(*(self._send(session, number) for number in range(SENDERS)))

    async def _send(self, session, number):
        while True:
            number += SENDERS
            # what is killed answers nothing, or 503: then the sender does not count the event as accepted
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.post(self.url, json={"number": number}) as response:
                    if response.status == 202:
                        self.acknowledged.append((await response.json())["id"])
                        self._progress.set()
                        continue
            await asyncio.sleep(0.02)

    async def progress(self, events):
        """Wait until so many more events were acknowledged."""
        target = len(self.acknowledged) + events
        async with asyncio.timeout(PATIENCE):
            while len(self.acknowledged) < target:
                self._progress.clear()
                await self._progress.wait()


async def all_ended(client, ids):
    """Wait until every execution has ended, and return their statuses by ID."""
    async with asyncio.timeout(PATIENCE):
        while True:
            executions = {execution.id: execution async for execution in client.executions.list(flow_id="crash")}
            missing = ids - executions.keys()
            assert not missing, f"lost: {missing}"
            if all(execution.status.ended for execution in executions.values()):
                return {id_: executions[id_].status for id_ in ids}
            await asyncio.sleep(0.2)


def arrivals(received):
    """Return, by execution, the steps in the order in which the outside world saw them."""
    steps = defaultdict(list)
    for request in received:
        execution = re.search(r"evt_[0-9a-z]{26}", request.key)
        assert execution, f"no execution in the idempotency key {request.key!r}"
        steps[execution[0]].append((int(request.path[1:]), request.key))
    return steps


async def test_every_acknowledged_event_completes_and_no_journaled_call_is_repeated():
    async with outside_world() as outside, running_cluster("--allow-private-addresses") as cluster:
        await cluster.client.flows.apply([FLOW.format(url=outside.url).encode()])
        senders = Senders(f"{cluster.http}/hook/crash")
        sending = asyncio.create_task(senders.run())
        for processes in (
            ["runner-1"],
            ["router-1"],
            ["edge-1"],
            ["runner-1", "runner-2"],
            ["runner-1", "runner-2", "router-1", "edge-1"],
        ):
            await senders.progress(100)
            await kill(cluster, *processes)
        await senders.progress(100)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

        acknowledged = set(senders.acknowledged)
        assert len(acknowledged) == len(senders.acknowledged) >= 600
        statuses = await all_ended(cluster.client, acknowledged)
        assert set(statuses.values()) == {Status.COMPLETED}

        seen = arrivals(outside.received)
        for execution_id in acknowledged:
            steps = [step for step, _ in seen[execution_id]]
            # a step that was in flight at a kill may come again, but never once the next one has begun
            assert steps == sorted(steps), f"{execution_id}: {steps}"
            assert set(steps) == set(range(1, STEPS + 1))
            assert len({key for _, key in seen[execution_id]}) == STEPS, "a repeated call has another key"


async def test_all_processes_end_with_the_supervisor_however_it_dies():
    async with running_cluster() as cluster:
        pids = [cluster.pid(name) for name in ("edge-1", "router-1", "runner-1", "runner-2", "admin-1")]
        os.kill(cluster.supervisor.pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while any(alive(pid) for pid in pids):
                await asyncio.sleep(0.05)
