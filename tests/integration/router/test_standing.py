"""How an execution stands for those who ask while it ends."""

from __future__ import annotations

import asyncio

import pytest
from support.shards import running_host

from flowhook.attach.messages import Completed
from flowhook.model import Status


@pytest.fixture
async def shard(tmp_path):
    async with running_host(tmp_path) as running:
        yield running


@pytest.mark.parametrize("by", ["records", "find"])
async def test_one_that_ends_while_it_is_looked_up_has_ended_and_is_not_as_if_it_had_not_begun(shard, by):
    runner = shard.attach()
    delivery = await shard.work_on(runner)
    seq = shard.core.leases.seq_of(delivery.lease)
    execution_id = (await shard.record(seq)).id

    async def look():
        if by == "find":
            return await shard.host.executions.find(execution_id)
        return (await shard.host.executions.read([seq]))[seq]

    gate = shard.state.delay(by)
    looking = asyncio.create_task(look())
    await shard.state.reading.wait()
    await shard.settle(runner, delivery, Completed(b"{}"))
    while shard.core.pending.is_stopping(seq):
        await asyncio.sleep(0)
    gate.set()
    assert (await looking).status is Status.COMPLETED


async def test_one_of_a_list_that_has_ended_since_it_was_read_has_ended(shard):
    runner = shard.attach()
    delivery = await shard.work_on(runner)
    record = await shard.record(shard.core.leases.seq_of(delivery.lease))
    await shard.settle(runner, delivery, Completed(b"{}"))
    while shard.core.pending.is_stopping(record.seq):
        await asyncio.sleep(0)
    (current,) = await shard.host.executions.current([record])
    assert current.status is Status.COMPLETED


async def test_one_whose_end_is_not_stored_yet_runs(shard):
    runner = shard.attach()
    delivery = await shard.work_on(runner)
    seq = shard.core.leases.seq_of(delivery.lease)
    shard.state.away = True
    settling = asyncio.create_task(shard.settle(runner, delivery, Completed(b"{}")))
    await shard.state.refused.wait()
    assert (await shard.host.executions.read([seq]))[seq].status is Status.RUNNING
    shard.state.away = False
    await settling
