"""What a runner says under a lease counts while the lease is good, and all of it is there for whoever is next."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import PATIENCE
from support.shards import running_host

from flowhook.attach.messages import Checkpoint, Completed, Faulted, Outcome, Parked, Released
from flowhook.errors import ConflictError
from flowhook.model import JournalEntry, Status
from router.dispatch import timers
from router.dispatch.receivers import runtime_error
from router.storage.model import Started


@pytest.fixture
async def shard(tmp_path):
    async with running_host(tmp_path) as shard:
        yield shard


def entry(number):
    return JournalEntry(f"/do/{number}/call#0", b"%d" % number)


def checkpoint(delivery, number):
    return Checkpoint(delivery.lease, number, entry(number))


def completed(delivery):
    return Outcome(delivery.lease, Completed(b"{}"))


async def test_a_checkpoint_under_way_when_its_lease_is_lost_is_there_for_the_next_attempt(shard):
    await shard.append()
    link = shard.attach("r1")
    (delivery,) = await link.next()
    journaling = asyncio.create_task(shard.host.recorder.checkpoint(link, [checkpoint(delivery, 0)]))
    await shard.state.has_unsent.wait()
    other = shard.attach("r2")
    shard.attach("r1", held=[], credit=0)
    (again,) = await other.next()
    assert again.journal == (entry(0),)
    await journaling
    assert link.acknowledged == []
    assert link.revoked == [(delivery.lease, "LEASE_LOST")]


async def test_a_checkpoint_that_could_not_be_stored_before_its_lease_was_lost_is_not_stored_after_it(shard):
    (seq,) = await shard.append()
    link = shard.attach("r1")
    (delivery,) = await link.next()
    shard.state.away = True
    journaling = asyncio.create_task(shard.host.recorder.checkpoint(link, [checkpoint(delivery, 0)]))
    await shard.state.refused.wait()
    shard.attach("r1", held=[], credit=0)
    shard.state.away = False
    other = shard.attach("r2")
    (again,) = await other.next()
    await journaling
    assert link.revoked == [(delivery.lease, "LEASE_LOST")]
    assert again.journal == ()
    await shard.host.recorder.checkpoint(other, [checkpoint(again, 0)])
    assert (await shard.state.work([seq]))[seq].journal == (entry(0),)


async def test_nothing_is_assigned_again_while_it_is_not_on_record_as_lost(shard):
    await shard.append()
    link = shard.attach("r1")
    await link.next()
    shard.state.away = True
    other = shard.attach("r2")
    shard.attach("r1", held=[], credit=0)
    await shard.state.refused.wait()
    assert (shard.core.leased, shard.core.ready) == (0, 1)
    assert other.deliveries == []
    shard.state.away = False
    await other.next()


async def test_what_a_runner_journaled_when_it_gave_an_execution_back_is_there_for_the_next_attempt(shard):
    await shard.append()
    link = shard.attach("r1", credit=1)
    other = shard.attach("r2", credit=0)
    (delivery,) = await link.next()
    shard.host.add_credit(other, 1)
    released = Outcome(delivery.lease, Released("DRAINING", charged=False), checkpoints=(checkpoint(delivery, 0),))
    await shard.host.recorder.settle(link, [released])
    (again,) = await other.next()
    assert (again.attempt, again.journal) == (1, (entry(0),))


async def test_what_a_runner_had_is_assigned_again_soon_after_its_stream_ended(tmp_path):
    async with running_host(tmp_path, lease_seconds=3600, reattach_seconds=0.2) as shard:
        await shard.append()
        link = shard.attach("r1")
        (delivery,) = await link.next()
        other = shard.attach("r2")
        while shard.core.next_deadline() < shard.clock() + 60:  # what it does after a start is done
            await asyncio.sleep(0.01)
        shard.host.detach(link)
        (again,) = await other.next()
        assert (again.event, again.attempt) == (delivery.event, 2)


@pytest.mark.parametrize("take_out", ["cancel", "suspend"])
async def test_nothing_is_retained_in_memory_of_what_an_operator_took_out(shard, take_out):
    (seq,) = await shard.append()
    assert shard.host.parts.cache.bytes
    await getattr(shard.host.commands, take_out)((await shard.record(seq)).id)
    assert shard.host.parts.cache.bytes == 0


async def test_an_outcome_that_is_given_back_is_settled_only_once_that_is_on_record(shard):
    await shard.append()
    link = shard.attach("r1", credit=1)
    (delivery,) = await link.next()
    shard.state.away = True
    released = Outcome(delivery.lease, Released("BROKEN", charged=True))
    settling = asyncio.create_task(shard.host.recorder.settle(link, [released]))
    await shard.state.refused.wait()
    assert link.settled == []
    shard.state.away = False
    await settling
    assert link.settled == [delivery.lease]


async def test_a_lease_outlives_an_outage_of_storage_while_its_runners_words_are_being_stored(tmp_path, monkeypatch):
    monkeypatch.setattr("router.dispatch.state_writer.RETRY_SECONDS", 0.05)
    async with running_host(tmp_path, lease_seconds=1.0) as shard:
        (seq,) = await shard.append()
        link = shard.attach()
        (delivery,) = await link.next()
        shard.state.away = True
        # who awaits this reads no renewals; storage is away for several leases
        journaling = asyncio.create_task(shard.host.recorder.checkpoint(link, [checkpoint(delivery, 0)]))
        await asyncio.sleep(2.5)
        shard.state.away = False
        await journaling
        assert link.error is None
        assert link.acknowledged == [(delivery.lease, 0)]
        await shard.host.recorder.settle(link, [completed(delivery)])
        assert link.settled == [delivery.lease]
        record = await shard.record(seq)
    assert (record.status, record.attempts) == (Status.COMPLETED, 1)


async def test_a_router_that_stood_still_takes_no_lease_for_that(tmp_path, monkeypatch):
    monkeypatch.setattr(timers, "CATCH_UP_SECONDS", PATIENCE)  # on a busy machine this test reads late, too
    async with running_host(tmp_path, lease_seconds=1.0) as shard:
        await shard.append()
        link = shard.attach()
        (delivery,) = await link.next()
        shard.clock.ahead += 100  # nobody read anything for so long
        await asyncio.sleep(1.2)
        shard.host.runners.renew(link)
        assert link.error is None
        assert shard.core.leases.seq_of(delivery.lease) is not None


async def test_a_stream_that_lost_its_leases_does_not_confirm_them(tmp_path):
    async with running_host(tmp_path, lease_seconds=0.1) as shard:
        link = shard.attach()
        assert shard.host.runners.renew(link)
        again = shard.attach()
        assert not shard.host.runners.renew(link)
        await again.until(lambda: again.error is not None)
        assert not shard.host.runners.renew(again)


async def test_a_runner_that_keeps_silent_loses_its_stream_and_its_work(tmp_path):
    async with running_host(tmp_path, lease_seconds=0.1) as shard:
        (seq,) = await shard.append()
        link = shard.attach()
        await link.next()
        await link.until(lambda: link.error is not None)
        assert link.error.reason == "RUNNER_SILENT"
        shard.clock.stop(shard.clock())  # the next lease does not end, however long the rest takes
        (again,) = await shard.attach("r2").next()
        assert again.attempt == 2
        assert (await shard.record(seq)).attempts == 1


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Released("RUNNER_DIED", charged=True), Status.PENDING),
        (Faulted(runtime_error("it ran too long")), Status.FAULTED),
    ],
)
async def test_a_runner_that_comes_back_late_still_says_who_cost_it_its_leases(tmp_path, result, status):
    async with running_host(tmp_path, reattach_seconds=0.0) as shard:
        culprit, _ = await shard.append("a", b"1", b"2")
        link = shard.attach()
        guilty, _ = await link.next(2)
        shard.host.detach(link)
        await shard.host.parts.writer.until(lambda: not shard.core.leased and shard.core.queues.ready == 2)
        link = shard.attach(held=[guilty.lease], credit=0)
        assert link.kept == []
        await shard.host.recorder.settle(link, [Outcome(guilty.lease, result)])
        assert (link.settled, link.revoked) == ([guilty.lease], [])
        record = await shard.record(culprit)
        assert (record.status, record.attempts) == (status, 1)
        assert shard.host.add_credit(link, 10)
        attempts = {delivery.attempt for delivery in await link.next(shard.core.queues.ready)}
        assert attempts == ({1, 2} if status is Status.PENDING else {1})


async def test_an_attempt_at_what_was_here_before_a_restart_is_on_record_before_it_begins(tmp_path):
    async with running_host(tmp_path) as shard:
        (seq,) = await shard.append()
    async with running_host(tmp_path, reattach_seconds=0.0) as shard:
        link = shard.attach()
        await link.next()
        record = (await shard.state.records([seq]))[seq]
        assert (record.status, record.attempts) == (Status.RUNNING, 1)


async def test_an_execution_that_kills_the_router_each_time_is_faulted_in_the_end(tmp_path):
    async with running_host(tmp_path, max_attempts=1) as shard:
        (seq,) = await shard.append()
    for _ in range(4):
        async with running_host(tmp_path, max_attempts=1, reattach_seconds=0.0) as shard:
            await shard.attach().next()
    async with running_host(tmp_path, max_attempts=1, reattach_seconds=0.0) as shard:
        await shard.host.parts.writer.until(lambda: not shard.core.unfinished)
        record = await shard.record(seq)
    assert (record.status, record.attempts) == (Status.FAULTED, 4)


async def test_a_lease_lost_before_a_restart_is_not_adopted_after_it_but_the_one_that_followed_is(tmp_path):
    async with running_host(tmp_path) as shard:
        await shard.append()
        (cut_off,) = await shard.attach("r1").next()
        shard.attach("r1", credit=0)
        (next_one,) = await shard.attach("r2").next()
    async with running_host(tmp_path) as shard:
        assert shard.attach("r1", held=[cut_off.lease]).kept == []
        assert shard.attach("r2", held=[next_one.lease]).kept == [next_one.lease]


@pytest.mark.parametrize("then", ["suspend", "resume"])
async def test_a_suspension_is_stored_before_anybody_is_notified_and_before_it_is_lifted(shard, then):
    (seq,) = await shard.append()
    execution_id = (await shard.record(seq)).id
    shard.state.away = True
    calls = [asyncio.create_task(shard.host.commands.suspend(execution_id))]
    await shard.state.refused.wait()
    calls.append(asyncio.create_task(getattr(shard.host.commands, then)(execution_id)))
    _, pending = await asyncio.wait(calls, timeout=0.1)
    assert len(pending) == 2
    shard.state.away = False
    await asyncio.gather(*calls)
    expected = Status.SUSPENDED if then == "suspend" else Status.PENDING
    assert (await shard.record(seq)).status is expected


@pytest.mark.parametrize("then", ["suspend", "resume"])
async def test_a_suspension_is_lifted_on_record_before_there_is_the_next_one(shard, then):
    (seq,) = await shard.append()
    execution_id = (await shard.record(seq)).id
    operators = shard.host.commands
    await operators.suspend(execution_id)
    shard.state.away = True
    resuming = asyncio.create_task(operators.resume(execution_id))
    await shard.state.refused.wait()
    call = asyncio.create_task(getattr(operators, then)(execution_id))
    assert not (await asyncio.wait([call], timeout=0.1))[0]
    shard.state.away = False
    await resuming
    if then == "resume":
        with pytest.raises(ConflictError, match="is not suspended"):
            await call
    else:
        await call
        assert shard.core.is_suspended(seq)
        assert (await shard.record(seq)).status is Status.SUSPENDED


async def test_an_attempt_that_a_suspension_ended_is_not_charged_whenever_it_is_lifted(shard):
    (seq,) = await shard.append()
    (delivery,) = await shard.attach().next()
    execution_id = (await shard.record(seq)).id
    await shard.state.write([Started(seq, delivery.attempt)])
    shard.attach(credit=0, held=[delivery.lease])
    shard.state.away = True
    suspending = asyncio.create_task(shard.host.commands.suspend(execution_id))
    await shard.state.refused.wait()
    resuming = asyncio.create_task(shard.host.commands.resume(execution_id))
    assert not (await asyncio.wait([resuming], timeout=0.1))[0]
    shard.state.away = False
    await asyncio.gather(suspending, resuming)
    assert (await shard.record(seq)).attempts == 0


async def test_a_suspension_does_not_overtake_what_arrived_before_it(shard):
    (seq,) = await shard.append()
    link = shard.attach()
    (delivery,) = await link.next()
    shard.state.away = True
    parking = asyncio.create_task(shard.host.recorder.settle(link, [Outcome(delivery.lease, Parked(None))]))
    await shard.state.refused.wait()
    suspending = asyncio.create_task(shard.host.commands.suspend((await shard.record(seq)).id))
    await asyncio.sleep(0.05)
    shard.state.away = False
    await parking
    await suspending
    assert (await shard.record(seq)).status is Status.SUSPENDED
