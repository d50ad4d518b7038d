"""Messages to a runner are sent together, and its queue is bounded."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from support.patience import PATIENCE, until

from flowhook.attach.messages import Assignment, Hello
from flowhook.errors import InvalidError, UnavailableError
from flowhook.v1 import runner_service_pb2 as pb
from router import session as attach_session
from router.services.runner import AttachReader, AttachWriter
from router.session import RunnerSession


class RecordingStream:
    """Takes what is written, one message at a time while `open`."""

    def __init__(self):
        self.messages = []
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, message):
        await self.open.wait()
        self.messages.append(message)

    @property
    def kinds(self):
        parts = [part for message in self.messages for part in message.bundle.responses or (message,)]
        return [part.WhichOneof("message") for part in parts]


@pytest.fixture
async def stream():
    return RecordingStream()


def writer(*on_room, **arguments):
    session = RunnerSession()
    session.receive(Hello("r1", (), "", (), losses_explained=True), 1)
    session.welcome(6.0, ())
    session.take()
    return AttachWriter(session, *on_room, now_ms=lambda: 0, **arguments)


async def send_all(box, stream):
    box.end()
    await box.send(stream.write)


def delivery(token=b"t", size=1):
    return Assignment(token, 1, 1, b"x" * size)


async def test_it_is_full_until_what_it_holds_is_sent(stream, monkeypatch):
    monkeypatch.setattr(attach_session, "MAX_UNSENT_BYTES", 10)
    reported = []
    box = writer(lambda: reported.append(box.full))
    stream.open.clear()
    sending = asyncio.create_task(box.send(stream.write))
    box.assign([delivery(size=9)])
    assert not box.full
    box.assign([delivery(size=1)])
    assert box.full
    waiting = asyncio.create_task(box.room())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    stream.open.set()
    await waiting
    assert (box.full, reported) == (False, [False])
    box.end()
    await sending


async def test_who_waits_for_room_does_not_wait_for_ever_when_the_stream_ends(monkeypatch):
    monkeypatch.setattr(attach_session, "MAX_UNSENT_BYTES", 1)
    box = writer()
    box.assign([delivery()])
    waiting = asyncio.create_task(box.room())
    await asyncio.sleep(0)
    box.close(UnavailableError("the router stops"))
    await waiting


async def test_nobody_waits_for_room_in_a_stream_that_ends_whatever_is_handed_over_meanwhile(monkeypatch):
    monkeypatch.setattr(attach_session, "MAX_UNSENT_BYTES", 1)
    box = writer()
    box.end()
    box.assign([delivery()])
    async with asyncio.timeout(PATIENCE):
        await box.room()


async def test_a_runner_that_reads_nothing_is_disconnected_before_its_queue_grows_without_bound(monkeypatch):
    monkeypatch.setattr(attach_session, "MAX_UNSENT_REVOCATIONS", 10)
    box = writer()
    for _ in range(11):
        assert box.error is None
        box.revoke([b"stale"], "LEASE_LOST")
    assert box.error.reason == "RUNNER_DEAF"
    assert box.closed.is_set()


async def test_the_first_reason_to_end_is_the_one_that_is_reported():
    box = writer()
    box.close(UnavailableError("first", reason="FIRST"))
    box.close(UnavailableError("second", reason="SECOND"))
    assert box.error.reason == "FIRST"


async def test_all_that_gathered_is_one_message(stream):
    box = writer()
    box.settle([b"s"])
    box.acknowledge(b"t", 1)
    box.assign([delivery()])
    await send_all(box, stream)
    (message,) = stream.messages
    kinds = [part.WhichOneof("message") for part in message.bundle.responses]
    assert kinds == ["settlement", "checkpointed", "assignments"]


async def test_messages_gather_while_much_is_under_way_and_go_when_one_is_urgent(stream, monkeypatch):
    monkeypatch.setattr("flowhook.attach.send_pacing.SECONDS_EACH", 3600.0)
    monkeypatch.setattr("flowhook.attach.send_pacing.MAX_SECONDS", 3600.0)
    box = writer(under_way=lambda: 100)
    sending = asyncio.create_task(box.send(stream.write))
    box.settle([b"a"])
    await until(lambda: stream.messages)
    box.settle([b"b"])
    box.settle([b"c"])
    await asyncio.sleep(0)
    assert len(stream.messages) == 1
    box.assign([delivery()], urgent=True)
    await until(lambda: len(stream.messages) == 2)
    settled, assigned = stream.messages[1].bundle.responses
    assert list(settled.settlement.leases) == [b"b", b"c"]
    assert assigned.WhichOneof("message") == "assignments"
    box.end()
    await sending


class Host:
    """Notes what is to be recorded, and what the runner is answered; storage answers while `open`."""

    def __init__(self):
        self.recorder = SimpleNamespace(checkpoint=self.checkpoint, settle=self.settle)
        self.runners = SimpleNamespace(renew=self.renew, is_superseded=self.is_superseded)
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


def checkpoint(lease, index, consumed=0):
    entry = pb.Checkpoint(
        lease=lease, index=index, entry=pb.JournalEntry(key="/do/0/a#0", output=b"1"), consumed=consumed
    )
    return pb.AttachRequest(checkpoints=pb.CheckpointBatch(checkpoints=[entry]))


def outcome(lease):
    completed = pb.Outcome(lease=lease, completed=pb.Completed(output=b"{}"))
    return pb.AttachRequest(outcomes=pb.OutcomeBatch(outcomes=[completed]))


def listening(lease):
    return pb.AttachRequest(
        subscriptions=pb.SubscriptionBatch(updates=[pb.SubscriptionUpdate(lease=lease, generation=1)])
    )


async def record(box, *messages):
    for message in messages:
        await box.put(message)
    box.end()
    async with asyncio.timeout(PATIENCE):
        await box.record()


async def test_an_outcome_waits_for_an_entry_that_takes_in_what_may_not_be_its(host, box):
    host.open.clear()
    recording = asyncio.create_task(record(box, checkpoint(b"a", 0, consumed=7), outcome(b"a")))
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
    monkeypatch.setattr(attach_session, "MAX_UNSTORED_BYTES", 1)
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
