"""What the guard sees of a call."""

from __future__ import annotations

import asyncio

import pytest

from runner.guard.evaluation_record import EvaluationRecord
from runner.worker.effect_calls import MonitoredCoroutine


@pytest.fixture
def record():
    record = EvaluationRecord()
    yield record
    record.close()


def seen(record):
    now = record.read()
    return bool(now.started_ns), now.is_step, now.lease, now.instance


async def test_each_step_is_seen_and_nothing_of_the_time_in_between(record):
    during, between = [], []
    waiting = asyncio.Event()

    async def call():
        during.append(seen(record))
        await waiting.wait()
        during.append(seen(record))
        return "outcome"

    task = asyncio.ensure_future(_of(MonitoredCoroutine(call(), record, b"lease", "/do/0/a")))
    await asyncio.sleep(0)
    between.append(seen(record)[0])
    waiting.set()
    assert await task == "outcome"
    between.append(seen(record)[0])
    assert during == [(True, True, b"lease", "/do/0/a")] * 2
    assert between == [False, False]


async def test_calls_that_take_turns_are_distinguished(record):
    leases = []

    async def call(lease):
        for _ in range(3):
            leases.append((lease, record.read().lease))
            await asyncio.sleep(0)

    await asyncio.gather(*(_of(MonitoredCoroutine(call(lease), record, lease, "/do/0/a")) for lease in (b"a", b"b")))
    assert len(leases) == 6
    assert all(lease == shown for lease, shown in leases)


async def test_an_expression_that_follows_is_no_step(record):
    await MonitoredCoroutine(asyncio.sleep(0), record, b"lease", "/do/0/a")
    record.begin("/do/1/b")
    assert seen(record) == (True, False, b"lease", "/do/1/b")


async def test_errors_and_cancellation_go_through(record):
    async def fail():
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await MonitoredCoroutine(fail(), record, b"lease", "/do/0/a")
    cleaned = []

    async def wait():
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(seen(record)[1])

    task = asyncio.ensure_future(_of(MonitoredCoroutine(wait(), record, b"lease", "/do/0/a")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == [True]
    assert not seen(record)[0]

    async def patient():
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await MonitoredCoroutine(patient(), record, b"lease", "/do/0/a")


async def _of(awaitable):
    return await awaitable
