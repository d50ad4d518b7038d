"""A runner that gets a tenth of a core: what it works on is neither judged by the clock nor given to others."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager

import jq
import psutil
import pytest
from support.ends import ended
from support.routers import running_router
from support.served import running_runner

from flowhook.model import Status

LEASE_SECONDS = 3.0
CPU_SECONDS = 0.5
CYCLE_SECONDS = 0.1
SHARE = 0.1


def loops_for(seconds):
    """Return how often jq counts in so much CPU time of this process."""
    loops = 1_000_000
    began = time.process_time()
    jq.compile(f"last(range({loops}))").input_text("null").first()
    return int(loops * seconds / (time.process_time() - began))


def document(name, program):
    return (
        f"document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}\n"
        f"do:\n  - run: {{set: {{x: '${{ {program} }}'}}}}\n"
    ).encode()


@asynccontextmanager
async def starved():
    """Stop and continue all processes below this one, so that each gets `SHARE` of the time."""

    async def starve():
        while True:
            processes = [each.pid for each in psutil.Process().children(recursive=True)]
            for number, seconds in ((signal.SIGCONT, SHARE), (signal.SIGSTOP, 1 - SHARE)):
                for pid in processes:
                    try:
                        os.kill(pid, number)
                    except ProcessLookupError:
                        continue
                await asyncio.sleep(seconds * CYCLE_SECONDS)

    starving = asyncio.create_task(starve())
    try:
        yield
    finally:
        starving.cancel()
        await asyncio.gather(starving, return_exceptions=True)
        for each in psutil.Process().children(recursive=True):
            each.send_signal(signal.SIGCONT)


@pytest.fixture
async def client(tmp_path):
    async with (
        running_router(tmp_path, lease_seconds=LEASE_SECONDS) as router,
        running_runner(router, "runner-1"),
        router.client() as client,
    ):
        yield client


async def test_an_expression_of_half_a_second_of_cpu_completes_in_its_first_attempt(client):
    heavy = f"last(range({loops_for(CPU_SECONDS)}))"
    await client.flows.apply([document("heavy", heavy), document("quick", ".n + 1")])
    assert (await ended(client, await client.ingest("quick", {"n": 1}))).status is Status.COMPLETED
    async with starved():
        execution = await ended(client, await client.ingest("heavy", {}))
    assert (execution.status, execution.attempts, execution.error) == (Status.COMPLETED, 1, None)
    # it took longer than the lease, and than the limit of an expression would be if it were wall time
    assert execution.end_time_ms - execution.receive_time_ms > LEASE_SECONDS * 1000
