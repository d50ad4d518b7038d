"""What is read from storage for runners: fair, bounded, and never held up by one that is slow or can't be read."""

from __future__ import annotations

import asyncio

import pytest
from support.shards import running_host

from flowhook import limits
from flowhook.attach.messages import Completed, Outcome
from flowhook.errors import InternalError, UnavailableError
from flowhook.model import JournalEntry, Status
from router.dispatch.assignment import EXECUTIONS_PER_READ
from router.scheduling.queues import FlowPolicy
from router.scheduling.rates import RatePolicy
from router.storage.model import Journaled


@pytest.fixture
async def shard(tmp_path, monkeypatch):
    monkeypatch.setattr("router.dispatch.assignment.READ_RETRY_SECONDS", 0.01)
    async with running_host(tmp_path) as shard:
        yield shard


def completed(delivery):
    return Outcome(delivery.lease, Completed(b"{}"))


async def test_a_quiet_flow_is_served_in_one_turn_of_the_ring_also_when_all_must_be_read(shard):
    flows = ["noisy", "busy", "quiet"]
    await shard.append("noisy", *(b"noisy" for _ in range(2000)))
    await shard.append("busy", *(b"busy" for _ in range(500)))
    shard.forget_payloads()
    link = shard.attach(credit=20)
    working = await link.next(20)
    await shard.append("quiet", b"quiet")
    shard.forget_payloads()
    served = []
    while b"quiet" not in served:
        await shard.host.recorder.settle(link, [completed(working.pop(0))])
        shard.host.add_credit(link, 1)
        (delivery,) = await link.next()
        working.append(delivery)
        served.append(delivery.event)
    assert len(served) <= len(flows)


async def test_a_slow_read_for_one_runner_does_not_hold_up_another(shard):
    seqs = await shard.append("a", *(b"%d" % number for number in range(2)))
    shard.forget_payloads()
    shard.state.hold(seqs[0])
    slow = shard.attach("slow", credit=1)
    shard.host._dispatcher.assign()
    quick = shard.attach("quick", credit=1)
    (delivery,) = await quick.next()
    assert delivery.event == b"1"
    assert slow.deliveries == []


async def test_a_fresh_event_does_not_wait_for_a_slow_read(shard):
    (stale,) = await shard.append("noisy", b"stale")
    shard.forget_payloads()
    shard.state.hold(stale)
    link = shard.attach(credit=2)
    await shard.append("quiet", b"fresh")
    (delivery,) = await link.next()
    assert delivery.event == b"fresh"


async def test_what_is_read_at_a_time_is_bounded_and_waits_for_a_runner_that_takes_nothing_in(shard):
    count = 3 * EXECUTIONS_PER_READ
    shard.host.set_policy("a", FlowPolicy(concurrency=count))
    await shard.append("a", *(b"%d" % number for number in range(count)))
    shard.forget_payloads()
    link = shard.attach(credit=0)
    link.full = True
    shard.host.add_credit(link, count)
    other = shard.attach("r2", credit=1)
    await other.next()
    assert shard.core.leased == 1
    assert shard.state.reads == [[1]]
    link.deliver()
    shard.host.wake()
    await link.next(count - 1)
    assert max(len(read) for read in shard.state.reads) <= EXECUTIONS_PER_READ


async def test_what_a_runner_that_fell_silent_has_not_received_does_not_count_for_the_rate(tmp_path):
    async with running_host(tmp_path, lease_seconds=0.1) as shard:
        shard.host.set_policy("a", FlowPolicy(rate=RatePolicy(1, 86_400.0, burst=2)))
        shard.clock.ahead += 3 * 86_400.0
        first, second = await shard.append("a", b"1", b"2")
        shard.state.hold(first, second)
        link = shard.attach()
        await link.until(lambda: link.error is not None)
        shard.clock.stop(shard.clock())
        shard.state.held[first].set()
        other = shard.attach("r2")
        assert [each.event for each in await other.next(2)] == [b"1", b"2"]
        for seq in (first, second):
            assert (await shard.record(seq)).attempts == 0  # it was not charged either


async def test_an_execution_that_can_not_be_read_now_holds_up_no_other(shard):
    seqs = await shard.append("a", *(b"%d" % number for number in range(5)))
    shard.forget_payloads()
    shard.state.broken[seqs[1]] = UnavailableError("the disk has a bad spot", reason="STORAGE_UNAVAILABLE")
    link = shard.attach()
    assert {delivery.event for delivery in await link.next(4)} == {b"0", b"2", b"3", b"4"}
    shard.state.broken.clear()
    (late,) = await link.next()
    assert (late.event, late.attempt) == (b"1", 1)


async def test_an_execution_that_can_never_be_read_is_faulted_and_holds_up_no_other(shard):
    seqs = await shard.append("a", *(b"%d" % number for number in range(3)))
    shard.forget_payloads()
    shard.state.broken[seqs[0]] = InternalError("damaged", reason="STORAGE_CALL_FAILED")
    link = shard.attach(credit=3)
    assert {delivery.event for delivery in await link.next(2)} == {b"1", b"2"}
    await until_ended(shard, seqs[0])
    record = await shard.record(seqs[0])
    assert (record.status, record.error.detail) == (
        Status.FAULTED,
        "it can't be run: what is stored of it can't be read",
    )
    # the runner never got it, and may still have one
    await shard.append("a", b"next")
    assert (await link.next())[0].event == b"next"


async def test_an_execution_of_which_nothing_can_be_read_is_faulted_and_stops_nothing(shard, monkeypatch):
    async def fail(_seqs):
        raise InternalError("damaged", reason="STORAGE_CALL_FAILED")

    (seq,) = await shard.append("a", b"damaged")
    shard.forget_payloads()
    with monkeypatch.context() as damaged, shard.host.waiters.place("a") as wait_for:
        for name in ("work", "records", "execution_ids"):
            damaged.setattr(shard.state, name, fail, raising=False)
        link = shard.attach(credit=1)
        await wait_for(seq)
    assert (await shard.record(seq)).status is Status.FAULTED
    await shard.append("a", b"next")
    assert (await link.next())[0].event == b"next"


async def test_an_execution_whose_body_is_gone_is_faulted(shard, tmp_path):
    (seq,) = await shard.append("a", b"x" * (limits.INLINE_BODY_BYTES + 1))
    shard.forget_payloads()
    (blob,) = (tmp_path / "blobs").glob("*/*")
    blob.unlink()
    shard.attach()
    await until_ended(shard, seq)
    assert (await shard.record(seq)).status is Status.FAULTED


async def test_an_execution_that_fits_into_no_message_is_faulted_before_it_breaks_a_stream(shard):
    (seq,) = await shard.append("a", b"x" * 16 * limits.MIB)
    shard.forget_payloads()
    entry = JournalEntry("/do/0/a#0", b"x" * limits.MIB)
    await shard.state.write([Journaled(seq, index, entry) for index in range(16)])
    link = shard.attach()
    await until_ended(shard, seq)
    assert "larger than a message" in (await shard.record(seq)).error.detail
    assert link.deliveries == []


async def test_one_cancelled_while_it_is_read_costs_its_runner_no_credit(shard):
    (seq,) = await shard.append("a", b"cancelled")
    shard.forget_payloads()
    gate = shard.state.hold(seq)
    link = shard.attach(credit=1)
    shard.host._dispatcher.assign()
    await shard.host.commands.cancel((await shard.record(seq)).id)
    gate.set()
    await shard.append("a", b"next")
    assert (await link.next())[0].event == b"next"


async def test_what_a_runner_was_yet_to_get_when_it_left_is_given_to_another_uncharged(shard):
    (seq,) = await shard.append()
    shard.forget_payloads()
    gate = shard.state.hold(seq)
    link = shard.attach("r1")
    shard.host._dispatcher.assign()
    shard.host.detach(link)
    gate.set()
    (delivery,) = await shard.attach("r2").next()
    assert delivery.attempt == 1
    assert link.deliveries == []


async def test_large_bodies_come_a_few_at_a_time(shard):
    body = b"x" * 9 * limits.MIB
    await shard.append("a", body, body, body)
    shard.forget_payloads()
    link = shard.attach()
    assert [delivery.event == body for delivery in await link.next(3)] == [True] * 3
    assert len(shard.state.reads) > 1


async def test_a_host_that_drains_hands_out_nothing_more_and_waits_for_what_is_in_hand(shard):
    await shard.append()
    link = shard.attach()
    (delivery,) = await link.next()
    draining = asyncio.create_task(shard.host.drain(10))
    await asyncio.sleep(0)
    await shard.append()
    await shard.host.recorder.settle(link, [completed(delivery)])
    await draining
    assert link.deliveries == [delivery]
    assert link.settled == [delivery.lease]


async def until_ended(shard, seq):
    with shard.host.waiters.place("a") as wait_for:
        ended = wait_for(seq)
        if not (await shard.record(seq)).status.ended:
            await ended


async def test_a_defect_in_one_effect_is_logged_and_the_next_one_is_performed(shard, monkeypatch):
    assign, defects = shard.core.assign, [ValueError("a defect")]

    def assign_or_fail(*arguments):
        if defects:
            raise defects.pop()
        return assign(*arguments)

    monkeypatch.setattr(shard.core, "assign", assign_or_fail)
    await shard.append("first")
    link = shard.attach(credit=2)
    while defects:
        await asyncio.sleep(0)
    await shard.append("second")
    assert {delivery.event for delivery in await link.next(2)} == {b"payload"}
    assert not shard.dead
