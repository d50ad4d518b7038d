"""The writer's pause between transactions that change many executions."""

import asyncio
import threading

import pytest

from router.storage.changes import StateChangeOperation
from router.storage.model import Started
from router.storage.schema import connect_writer
from router.storage.writer import BUSY_CHANGES, PAUSE_SECONDS, TransactionLog, Writer


class Pauses:
    """Stands for the module `time` of the writer: a pause lasts until `end` is set."""

    def __init__(self, loop):
        self._loop = loop
        self.begun = asyncio.Event()
        self.end = threading.Event()
        self.seconds = []

    def sleep(self, seconds):
        self.seconds.append(seconds)
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self.end.wait(60)


class Recording(StateChangeOperation):
    def __init__(self):
        super().__init__()
        self.transactions = []

    def apply(self, connection, arguments):
        self.transactions.append([len(changes) for changes in arguments])
        return super().apply(connection, arguments)


@pytest.fixture
async def writer(tmp_path, monkeypatch):
    pauses = Pauses(asyncio.get_running_loop())
    monkeypatch.setattr("router.storage.writer.time", pauses)
    operation = Recording()
    writer = Writer(connect_writer(tmp_path / "database"), [operation], TransactionLog())
    writer.start()
    yield writer, operation, pauses
    pauses.end.set()
    await writer.close()


def changes(number):
    return [Started(seq, 1) for seq in range(1, number + 1)]


async def test_calls_that_arrive_in_the_pause_after_many_changes_share_a_transaction(writer):
    writer, operation, pauses = writer
    await writer.call(operation, changes(BUSY_CHANGES))
    await pauses.begun.wait()
    waiting = [asyncio.create_task(writer.call(operation, changes(number))) for number in (1, 2)]
    await asyncio.sleep(0)  # both are queued
    pauses.end.set()
    await asyncio.gather(*waiting)
    assert operation.transactions == [[BUSY_CHANGES], [1, 2]]
    assert pauses.seconds == [PAUSE_SECONDS]


async def test_the_writer_does_not_pause_after_few_changes_nor_other_writes(writer):
    writer, operation, pauses = writer
    await writer.call(operation, changes(BUSY_CHANGES - 1))
    await writer.write(lambda connection: connection.execute("SELECT 1").get)
    await writer.call(operation, changes(1))
    assert pauses.seconds == []
