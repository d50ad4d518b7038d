"""What waits to be sent to a runner: in an order that means something, and bounded."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import PATIENCE

from flowhook.errors import UnavailableError
from router.dispatch.runner_port import RunnerAssignment
from router.services import attach_writer
from router.services.attach_writer import AttachWriter


class Stream:
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
        return [message.WhichOneof("message") for message in self.messages]


@pytest.fixture
async def stream():
    return Stream()


async def send_all(box, stream):
    box.end()
    await box.send(stream.write)


def delivery(token=b"t", size=1):
    return RunnerAssignment(token, 1, 1, b"x" * size)


async def test_a_runner_hears_of_an_assignment_before_it_is_revoked(stream):
    box = AttachWriter("r1")
    box.assign([delivery()])
    box.revoke([b"t"], "EXECUTION_CANCELLED")
    await send_all(box, stream)
    assert stream.kinds == ["assignments", "revocation"]


async def test_what_gathers_goes_together(stream):
    box = AttachWriter("r1")
    for number in range(3):
        box.settle([b"%d" % number])
        box.acknowledge(b"t", number)
    await send_all(box, stream)
    settlement, checkpointed = stream.messages
    assert list(settlement.settlement.leases) == [b"0", b"1", b"2"]
    assert [(item.lease, item.index) for item in checkpointed.checkpointed.checkpoints] == [(b"t", 2)]


async def test_that_leases_are_good_is_told_after_which_are_not_and_once(stream):
    box = AttachWriter("r1")
    box.renewed(1)
    box.renewed(2)
    box.revoke([b"t"], "LEASE_LOST")
    await send_all(box, stream)
    assert stream.kinds == ["revocation", "renewed"]
    assert stream.messages[1].renewed.stamp == 2


async def test_what_is_durable_is_told_up_to_the_last_of_both_kinds(stream):
    box = AttachWriter("r1")
    box.acknowledge(b"t", -1, 1)
    box.acknowledge(b"t", 3)
    box.acknowledge(b"t", 2, 2)
    box.acknowledge(b"u", -1, 1)
    await send_all(box, stream)
    [message] = stream.messages
    found = [(item.lease, item.index, item.number) for item in message.checkpointed.checkpoints]
    assert found == [(b"t", 3, 2), (b"u", -1, 1)]


async def test_the_last_word_on_what_is_to_be_told_counts_and_goes_first(stream):
    box = AttachWriter("r1")
    box.assign([delivery()])
    box.want({"a"})
    box.want({"c", "b"})
    await send_all(box, stream)
    assert stream.kinds == ["interest", "assignments"]
    assert list(stream.messages[0].interest.event_types) == ["b", "c"]
    box.want(())
    await send_all(box, stream)
    assert list(stream.messages[-1].interest.event_types) == []


async def test_assignments_are_split_into_messages_that_fit(stream, monkeypatch):
    monkeypatch.setattr(attach_writer, "MAX_BATCH_BYTES", 250)
    box = AttachWriter("r1")
    box.assign([delivery(b"%d" % number, size) for number, size in enumerate([100, 100, 100, 900, 10])])
    await send_all(box, stream)
    batches = [[len(item.event) for item in message.assignments.assignments] for message in stream.messages]
    assert batches == [[100, 100], [100], [900], [10]]


async def test_it_is_full_until_what_it_holds_is_sent(stream, monkeypatch):
    monkeypatch.setattr(attach_writer, "MAX_UNSENT_BYTES", 10)
    told = []
    box = AttachWriter("r1", lambda: told.append(box.full))
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
    assert (box.full, told) == (False, [False])
    box.end()
    await sending


async def test_who_waits_for_room_does_not_wait_for_ever_when_the_stream_ends(monkeypatch):
    monkeypatch.setattr(attach_writer, "MAX_UNSENT_BYTES", 1)
    box = AttachWriter("r1")
    box.assign([delivery()])
    waiting = asyncio.create_task(box.room())
    await asyncio.sleep(0)
    box.close(UnavailableError("the router stops"))
    await waiting


async def test_nobody_waits_for_room_in_a_stream_that_ends_whatever_is_handed_over_meanwhile(monkeypatch):
    monkeypatch.setattr(attach_writer, "MAX_UNSENT_BYTES", 1)
    box = AttachWriter("r1")
    box.end()
    box.assign([delivery()])
    async with asyncio.timeout(PATIENCE):
        await box.room()


async def test_a_runner_that_reads_nothing_is_sent_away_before_what_it_is_told_grows_without_bound(monkeypatch):
    monkeypatch.setattr(attach_writer, "MAX_UNSENT_TOKENS", 10)
    box = AttachWriter("r1")
    for _ in range(11):
        assert box.error is None
        box.revoke([b"stale"], "LEASE_LOST")
    assert box.error.reason == "RUNNER_DEAF"
    assert box.closed.is_set()


async def test_the_first_reason_to_end_is_the_one_that_is_told():
    box = AttachWriter("r1")
    box.close(UnavailableError("first", reason="FIRST"))
    box.close(UnavailableError("second", reason="SECOND"))
    assert box.error.reason == "FIRST"


async def test_a_runner_that_takes_bundles_gets_all_that_gathered_as_one_message(stream):
    box = AttachWriter("r1", bundles=True)
    box.settle([b"s"])
    box.acknowledge(b"t", 1)
    box.assign([delivery()])
    await send_all(box, stream)
    (message,) = stream.messages
    kinds = [part.WhichOneof("message") for part in message.bundle.responses]
    assert kinds == ["settlement", "checkpointed", "assignments"]


async def test_a_bundle_is_no_larger_than_a_message_may_be(stream, monkeypatch):
    monkeypatch.setattr(attach_writer, "MAX_BATCH_BYTES", 250)
    box = AttachWriter("r1", bundles=True)
    box.settle([b"s"])
    box.assign([delivery(size=900)])
    await send_all(box, stream)
    assert stream.kinds == ["settlement", "assignments"]


async def test_messages_gather_while_much_is_under_way_and_go_when_one_is_urgent(stream, monkeypatch):
    monkeypatch.setattr("flowhook.send_pacing.SECONDS_EACH", 3600.0)
    monkeypatch.setattr("flowhook.send_pacing.MAX_SECONDS", 3600.0)
    box = AttachWriter("r1", under_way=lambda: 100)
    sending = asyncio.create_task(box.send(stream.write))
    box.settle([b"a"])
    await until(lambda: stream.messages)
    box.settle([b"b"])
    box.settle([b"c"])
    await asyncio.sleep(0)
    assert len(stream.messages) == 1
    box.assign([delivery()], urgent=True)
    await until(lambda: len(stream.messages) == 3)
    assert list(stream.messages[1].settlement.leases) == [b"b", b"c"]
    box.end()
    await sending


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)
