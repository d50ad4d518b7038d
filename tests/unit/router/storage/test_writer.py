"""The writer's pause between transactions that change many executions."""

import asyncio

import pytest
from support.patience import PATIENCE

from router.storage.changes import StateChangeOperation
from router.storage.model import Started
from router.storage.schema import connect_writer
from router.storage.writer import BUSY_CHANGES, TransactionLog, Writer


class Recording(StateChangeOperation):
    def __init__(self):
        super().__init__()
        self.transactions = []

    def apply(self, connection, arguments):
        self.transactions.append([len(changes) for changes in arguments])
        return super().apply(connection, arguments)


@pytest.fixture
async def writer(tmp_path, monkeypatch):
    monkeypatch.setattr("router.storage.writer.PAUSE_SECONDS", PATIENCE)  # none ends by itself
    operation = Recording()
    writer = Writer(connect_writer(tmp_path / "database"), [operation], TransactionLog())
    writer.start()
    yield writer, operation
    await writer.close()


def changes(number):
    return [Started(seq, 1) for seq in range(1, number + 1)]


async def waiting(writer, operation, *numbers):
    """Have patient calls wait, with these numbers of changes."""
    tasks = [asyncio.create_task(writer.call(operation, changes(number), patient=True)) for number in numbers]
    await asyncio.sleep(0)  # now all are queued
    return tasks


async def test_patient_calls_after_many_changes_wait_for_another_and_share_its_transaction(writer):
    writer, operation = writer
    await writer.call(operation, changes(BUSY_CHANGES), patient=True)
    tasks = await waiting(writer, operation, 1, 2)
    await writer.call(operation, changes(3))
    await asyncio.gather(*tasks)
    assert operation.transactions == [[BUSY_CHANGES], [1, 2, 3]]


async def test_a_pause_ends_by_itself(writer, monkeypatch):
    writer, operation = writer
    monkeypatch.setattr("router.storage.writer.PAUSE_SECONDS", 0.001)
    await writer.call(operation, changes(BUSY_CHANGES), patient=True)
    await writer.call(operation, changes(1), patient=True)
    assert operation.transactions == [[BUSY_CHANGES], [1]]


async def test_a_pause_ends_when_the_writer_closes_or_has_something_else_to_do(writer):
    writer, operation = writer
    await writer.call(operation, changes(BUSY_CHANGES), patient=True)
    assert await writer.run_between(lambda: "run") == "run"
    await writer.call(operation, changes(BUSY_CHANGES), patient=True)
    tasks = await waiting(writer, operation, 1)
    await writer.close()
    await asyncio.gather(*tasks)


async def test_the_writer_does_not_pause_after_few_changes_nor_after_other_writes(writer):
    writer, operation = writer
    await writer.call(operation, changes(BUSY_CHANGES - 1), patient=True)
    await writer.call(operation, changes(1), patient=True)
    await writer.write(lambda connection: connection.execute("SELECT 1").get)
    await writer.call(operation, changes(2), patient=True)
    assert operation.transactions == [[BUSY_CHANGES - 1], [1], [2]]
