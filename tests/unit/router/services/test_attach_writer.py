"""Messages to a runner are sent together, and its queue is bounded."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import PATIENCE, until

from flowhook.attach.messages import Assignment, Hello
from flowhook.errors import UnavailableError
from router.services.attach_writer import AttachWriter
from router.session import RunnerSession, send_queue


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
    monkeypatch.setattr(send_queue, "MAX_UNSENT_BYTES", 10)
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
    monkeypatch.setattr(send_queue, "MAX_UNSENT_BYTES", 1)
    box = writer()
    box.assign([delivery()])
    waiting = asyncio.create_task(box.room())
    await asyncio.sleep(0)
    box.close(UnavailableError("the router stops"))
    await waiting


async def test_nobody_waits_for_room_in_a_stream_that_ends_whatever_is_handed_over_meanwhile(monkeypatch):
    monkeypatch.setattr(send_queue, "MAX_UNSENT_BYTES", 1)
    box = writer()
    box.end()
    box.assign([delivery()])
    async with asyncio.timeout(PATIENCE):
        await box.room()


async def test_a_runner_that_reads_nothing_is_disconnected_before_its_queue_grows_without_bound(monkeypatch):
    monkeypatch.setattr(send_queue, "MAX_UNSENT_REVOCATIONS", 10)
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
