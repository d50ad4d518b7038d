"""What an execution makes router, edge and runner do is what `work_of_an_execution.json` says.

CPU time varies with the machine, so its causes are counted: messages, transactions, rows, jq programs. A change that
adds one of them for each execution fails here, and so does one that saves some, until the file is renewed:
`FLOWHOOK_RENEW_WORK=1 .venv/bin/python -m pytest tests/integration/test_work_of_an_execution.py` does that, and fails.

A busy machine changes nothing here: one batch follows the other, and what depends on time (`_untimed`) is out of the
way, or has a limit.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.edges import running_edge
from support.patience import PATIENCE
from support.routers import running_router
from support.work_counts import counting
from support.workers import running_worker

from bench.events import payload
from bench.load import LoadConnection
from bench.requests import apply_flow, signed
from edge.metrics import EdgeMetrics
from edge.router.client import RouterClient
from edge.router.ingest import IngestBatcher
from edge.webhook.log_limiter import RateLimitedLogger
from flowhook.client import channel
from flowhook.events import ids
from flowhook.model import Event
from flowhook.process import logs
from flowhook.wire import convert
from router.dispatch import state_writer
from router.flows.series_keeper import SeriesKeeper
from router.process.retention import RetentionKeeper
from runner.worker import execution_driver

RENEW = "FLOWHOOK_RENEW_WORK"
TABLE = Path(__file__).with_name("work_of_an_execution.json")
KEY = "a key of sixteen"

EACH = 500
"""Executions that are counted one at a time, and again in batches: 1,000 in all."""
WARM_UP = 100
"""Executions before them: of the first ones, the flow is requested and compiled, and the runner's window grows."""
BATCH = 25
"""Less than a runner with its smallest window gets of one flow."""

TIME_CALLS = 2.5
"""Readings of CPU time for an execution at most: how many expressions share one depends on how long they take."""
IDLE_TRANSACTIONS = 100
"""Transactions without a row at most: there is one a minute or so for each thing that expires."""


@pytest.fixture(autouse=True)
def _untimed(monkeypatch):
    """Let a turn of the runner last until all is done, and no attempt last so long that it gets a row of its own.

    What the router stores once a minute or a day, whatever is executed, has tests of its own.
    """
    monkeypatch.setattr(execution_driver, "TURN_SECONDS", math.inf)
    monkeypatch.setattr(state_writer, "STARTED_DELAY", 3600.0)
    for keeper in (SeriesKeeper, RetentionKeeper):
        monkeypatch.setattr(keeper, "run", _idle)


async def _idle(_keeper):
    await asyncio.Event().wait()


async def test_an_execution_makes_as_much_work_as_the_table_says(tmp_path):
    counted = {}
    with counting() as counts:
        async with (
            running_router(tmp_path, lease_seconds=3600) as router,
            running_edge(router) as edge,
            running_worker(router),
            _batcher(router) as batcher,
        ):
            async with router.client() as client:
                await client.secrets.set("bench", KEY.encode())
                flow_id = await apply_flow(client, "run")
            request = signed(f"http://{edge}/hook/{flow_id}", KEY)
            sender = await LoadConnection.open(request.url)

            async def one():
                assert await sender.exchange(request.encoded()) == 202

            async def batch():
                results = await asyncio.gather(*(batcher.submit(_event(flow_id), len(payload())) for _ in range(BATCH)))
                assert all(each.HasField("accepted") for each in results)

            async def execute(send, at_a_time, executions):
                for _ in range(executions // at_a_time):
                    settled = counts.after(at_a_time)
                    await send()
                    async with asyncio.timeout(PATIENCE):
                        await settled

            for send, at_a_time in ((one, 1), (batch, BATCH)):
                await execute(send, at_a_time, WARM_UP)
                before, time_calls = Counter(counts.work), counts.time_calls
                await execute(send, at_a_time, EACH)
                work = {"jq programs": 0} | (counts.work - before)
                counted[f"{EACH} executions, {at_a_time} at a time"] = dict(sorted(work.items()))
                assert counts.time_calls - time_calls <= TIME_CALLS * EACH
            sender.close()
    assert counts.idle_transactions <= IDLE_TRANSACTIONS
    _compare(counted)


def _compare(counted):
    if os.environ.get(RENEW) == "1":
        TABLE.write_text(json.dumps(counted, indent=2) + "\n", encoding="utf-8")
        pytest.fail(f"{TABLE.name} is renewed; read its diff, then run the test without {RENEW}", pytrace=False)
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    changes = [
        f"{what}: {work} were {table.get(what, {}).get(work, 0)}, are {counted.get(what, {}).get(work, 0)}"
        for what in sorted(counted.keys() | table)
        for work in sorted(counted.get(what, {}).keys() | table.get(what, {}))
        if table.get(what, {}).get(work, 0) != counted.get(what, {}).get(work, 0)
    ]
    if changes:
        pytest.fail(f"if that is meant, renew {TABLE.name} by {RENEW}=1\n\n" + "\n".join(changes), pytrace=False)


@asynccontextmanager
async def _batcher(router):
    """Run the part of an edge that sends events to the router: those of one turn of the loop are one batch."""
    connection = channel.connect(router.target, router.token("edge"))
    log = RateLimitedLogger(logs.get_logger("test"), asyncio.get_running_loop().time)
    batcher = IngestBatcher(RouterClient(connection), EdgeMetrics(), log, timeout=PATIENCE, max_pending=BATCH)
    running = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        running.cancel()
        await asyncio.wait([running])
        await connection.close(None)


def _event(flow_id):
    now_ms = time.time_ns() // 1_000_000
    event_id = ids.mint(ids.slot_of(flow_id))
    return convert.event_to_proto(
        Event(event_id, flow_id, now_ms, None, "", "POST", "", "", "application/json", (), payload())
    )
