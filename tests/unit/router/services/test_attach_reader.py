"""What a runner says is recorded in order, and together with what is read meanwhile."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from support.patience import PATIENCE

from flowhook.attach.messages import Hello
from flowhook.errors import InvalidError
from flowhook.v1 import runner_service_pb2 as pb
from router.services.attach_reader import AttachReader
from router.session import RunnerSession, report_queue


class Host:
    """Notes what is to be recorded, and what the runner is answered; storage answers while `open`."""

    def __init__(self):
        self.recorder = SimpleNamespace(checkpoint=self.checkpoint, settle=self.settle)
        self.noted = []
        self.superseded = False
        self.takes_credit = self.renews = True
        self.open = asyncio.Event()
        self.open.set()

    def add_credit(self, _link, credit):
        self.noted.append(("credit", credit))
        return self.takes_credit

    def renew(self, _link):
        return self.renews

    def renewed(self, stamp):
        self.noted.append(("renewed", stamp))

    def is_superseded(self, _link):
        return self.superseded

    async def checkpoint(self, _link, checkpoints):
        self.noted.append(("checkpoint", [(each.lease, each.index) for each in checkpoints]))
        await self.open.wait()

    async def settle(self, _link, outcomes):
        self.noted.append(("settle", [(each.lease, [entry.index for entry in each.checkpoints]) for each in outcomes]))
        await self.open.wait()

    def listen(self, _link, update):
        self.noted.append(("listen", update.lease))


@pytest.fixture
async def host():
    return Host()


@pytest.fixture
async def box(host):
    session = RunnerSession()
    session.receive(Hello("r1", (), "", (), losses_explained=True), 1)
    return AttachReader(host, host, session)


def checkpoint(lease, index, arrival=0):
    entry = pb.Checkpoint(
        lease=lease, index=index, entry=pb.JournalEntry(key="/do/0/a#0", output=b"1"), arrival=arrival
    )
    return pb.AttachRequest(checkpoints=pb.CheckpointBatch(checkpoints=[entry]))


def outcome(lease):
    completed = pb.Outcome(lease=lease, completed=pb.Completed(output=b"{}"))
    return pb.AttachRequest(outcomes=pb.OutcomeBatch(outcomes=[completed]))


def listening(lease):
    return pb.AttachRequest(listening=pb.ListeningBatch(listening=[pb.Listening(lease=lease, generation=1)]))


async def record(box, *messages):
    for message in messages:
        await box.put(message)
    box.end()
    async with asyncio.timeout(PATIENCE):
        await box.record()


async def test_an_outcome_waits_for_an_entry_that_takes_in_what_may_not_be_its(host, box):
    host.open.clear()
    recording = asyncio.create_task(record(box, checkpoint(b"a", 0, arrival=7), outcome(b"a")))
    while not host.noted:
        await asyncio.sleep(0)
    assert host.noted == [("checkpoint", [(b"a", 0)])]
    host.open.set()
    await recording
    assert host.noted[1:] == [("settle", [(b"a", [])])]


async def test_what_is_listened_for_comes_after_the_entries_before_it(host, box):
    await record(box, checkpoint(b"a", 0), listening(b"a"), checkpoint(b"a", 1))
    assert host.noted == [("checkpoint", [(b"a", 0)]), ("listen", b"a"), ("checkpoint", [(b"a", 1)])]


async def test_what_is_read_while_storage_writes_is_recorded_together(host, box):
    host.open.clear()
    recording = asyncio.create_task(box.record())
    await box.put(checkpoint(b"a", 0))
    while not host.noted:
        await asyncio.sleep(0)
    for index in (1, 2, 3):
        await box.put(checkpoint(b"a", index))
    host.open.set()
    box.end()
    await recording
    assert host.noted == [("checkpoint", [(b"a", 0)]), ("checkpoint", [(b"a", 1), (b"a", 2), (b"a", 3)])]


async def test_no_more_is_read_than_can_be_recorded(host, box, monkeypatch):
    monkeypatch.setattr(report_queue, "MAX_UNSTORED_BYTES", 1)
    reading = asyncio.create_task(box.put(checkpoint(b"a", 0)))
    await asyncio.sleep(0)
    assert not reading.done()
    recording = asyncio.create_task(box.record())
    async with asyncio.timeout(PATIENCE):
        await reading
    box.end()
    await recording


async def test_what_arrived_on_a_stream_that_a_newer_one_replaced_is_left_to_that_one(host, box):
    host.superseded = True
    await record(box, checkpoint(b"a", 0), listening(b"a"), outcome(b"a"))
    assert host.noted == []


async def test_a_violation_ends_the_stream_and_what_arrived_before_it_is_recorded(host, box):
    await box.put(checkpoint(b"a", 0))
    with pytest.raises(InvalidError):
        await box.put(checkpoint(b"a", -1))
    await record(box)
    assert host.noted == [("checkpoint", [(b"a", 0)])]


async def test_more_credit_than_may_be_outstanding_is_a_violation(host, box):
    await box.put(pb.AttachRequest(credit=pb.Credit(assignments=7)))
    host.takes_credit = False
    with pytest.raises(InvalidError):
        await box.put(pb.AttachRequest(credit=pb.Credit(assignments=8)))
    assert host.noted == [("credit", 7), ("credit", 8)]


async def test_a_renewal_is_answered_unless_the_leases_are_lost(host, box):
    await box.put(pb.AttachRequest(renewal=pb.Renewal(stamp=7)))
    host.renews = False
    await box.put(pb.AttachRequest(renewal=pb.Renewal(stamp=8)))
    assert host.noted == [("renewed", 7)]
