"""Events for executions that listen: who gets them, when, and what becomes of them whatever happens."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from support.shards import running_host

from flowhook.attach.messages import Completed
from flowhook.errors import ConflictError, ExhaustedError
from flowhook.events import ids
from flowhook.model import Correlation, EventFilter, JournalEntry, Status, Subscription
from router.scheduling.matching import EventContent
from router.storage.event_log import EventLog
from router.storage.model import Consumed, NewInboundEvent
from router.storage.storage import open_storage

KEY = "/do/0/wait#0"


def listen(type_="approval", key=KEY, order=None, *, callback=True):
    correlations = () if order is None else (Correlation(".data.order", orjson.dumps(order)),)
    return Subscription(key, (EventFilter(callback, type_, (), correlations),))


def arrived(delivery):
    """What a runner finds in the journal of what it was assigned: keys, and data of events."""
    return [(entry.key, orjson.loads(entry.output)["data"]) for entry in delivery.journal]


async def waiting(shard, runner, *subscriptions, flow_id="a", **parked):
    """Have an execution wait, and return its sequence number."""
    delivery = await shard.work_on(runner, flow_id)
    seq = shard.core.leases.seq_of(delivery.lease)
    await shard.park(runner, delivery, *(subscriptions or [listen()]), **parked)
    return seq


async def test_an_event_goes_into_the_journal_of_who_waits_for_it_which_runs_again_uncharged(shard, runner):
    first = JournalEntry("/do/0/first#0", b'{"data":0}')
    seq = await waiting(shard, runner, entries=[first], wake_at_ms=2**45)
    assert (await shard.publish(data={"ok": True})).number == 1
    [again] = await runner.next()
    assert again.attempt == 1
    assert arrived(again) == [("/do/0/first#0", 0), (KEY, {"ok": True})]
    await shard.settle(runner, again, Completed(b"1"))
    assert (await shard.record(seq)).status is Status.COMPLETED
    assert await shard.state.inbound_events() == []


async def test_an_event_that_nobody_waits_for_is_buffered_for_the_first_who_does_the_oldest_first(shard, runner):
    for number in (1, 2):
        await shard.publish(data=number)
    await shard.publish("b", data=3)
    await shard.publish("a", "refusal", data=4)
    assert shard.host.events.buffered == 4
    await waiting(shard, runner, listen("refusal", "r"), listen(key="a"))
    [again] = await runner.next()
    assert arrived(again) == [("a", 1)]
    await shard.park(runner, again, listen("refusal", "r"), listen(key="a"))
    [again] = await runner.next()
    assert arrived(again) == [("a", 1), ("a", 2)]
    await shard.park(runner, again, listen("refusal", "r"), listen(key="a"))
    [again] = await runner.next()
    assert arrived(again)[2:] == [("r", 4)]
    assert [stored.event.flow_id for stored in await shard.state.inbound_events()] == ["b"]


async def test_an_event_goes_to_all_who_wait_for_it_and_to_nobody_else(shard, runner):
    for _ in range(3):
        await waiting(shard, runner)
    await waiting(shard, runner, listen("refusal"))
    await waiting(shard, runner, flow_id="b")
    busy = await shard.work_on(runner)
    await shard.publish(data=7, to_all=True)
    assert [arrived(each) for each in await runner.next(3)] == [[(KEY, 7)]] * 3
    await shard.park(runner, busy, listen())
    assert (shard.core.waiting, await shard.state.inbound_events()) == (3, [])


async def test_what_is_for_one_execution_is_refused_while_several_wait_for_it_and_none_gets_it(shard, runner):
    for _ in range(2):
        await waiting(shard, runner)
    with pytest.raises(ConflictError, match="several executions wait for this") as refused:
        await shard.publish(data=7)
    assert refused.value.reason == "CALLBACK_AMBIGUOUS"
    assert (shard.core.waiting, await shard.state.inbound_events()) == (2, [])


async def test_what_several_wait_for_reaches_the_one_whose_values_it_has(shard, runner):
    for order in (1, 2, 3):
        await waiting(shard, runner, listen(order=order))
    await shard.publish(data={"order": 2})
    assert [arrived(each) for each in await runner.next()] == [[(KEY, {"order": 2})]]
    assert shard.core.waiting == 2


async def test_what_was_accepted_is_known_when_it_comes_again_although_several_wait_by_then(shard, runner):
    await waiting(shard, runner)
    event_id = ids.mint(ids.slot_of("a"))
    keyed = {"dedupe_key": "7", "dedupe_until_ms": 2**45}
    await shard.publish(data=7, event_id=event_id, **keyed)
    await runner.next()
    for _ in range(2):
        await waiting(shard, runner)
    assert (await shard.publish(data=7, event_id=event_id)).duplicate_of == event_id
    assert (await shard.publish(data=7, **keyed)).duplicate_of == event_id
    assert shard.core.waiting == 2


async def test_one_that_begins_to_wait_while_it_is_stored_gets_nothing_of_what_is_for_one(tmp_path, monkeypatch):
    async with running_host(tmp_path) as shard:
        runner = shard.attach()
        first = await waiting(shard, runner)
        second = await shard.work_on(runner)
        append = EventLog.append_inbound
        reached = asyncio.Event()
        go_on = asyncio.Event()

        async def late(log, arrivals):
            reached.set()
            await go_on.wait()
            return await append(log, arrivals)

        monkeypatch.setattr(EventLog, "append_inbound", late)
        publishing = asyncio.create_task(shard.publish(data=7))
        await reached.wait()
        await shard.park(runner, second, listen())
        go_on.set()
        await publishing
        [again] = await runner.next()
        assert (shard.core.leases.seq_of(again.lease), arrived(again)) == (first, [(KEY, 7)])
        assert shard.core.waiting == 1


async def test_so_many_get_an_event_and_no_more_the_longest_waiting_first(shard, runner, monkeypatch):
    monkeypatch.setattr("flowhook.limits.MAX_RECEIVERS", 2)
    seqs = [await waiting(shard, runner) for _ in range(3)]
    await shard.publish(to_all=True)
    assert [shard.core.leases.seq_of(each.lease) for each in await runner.next(2)] == seqs[:2]
    assert shard.core.is_waiting(seqs[2])


async def test_many_large_entries_are_written_in_portions_and_acted_upon_together(shard, runner, monkeypatch):
    monkeypatch.setattr("router.dispatch.transitions.WRITE_BYTES", 10)
    for _ in range(3):
        await waiting(shard, runner)
    await shard.publish(data="x" * 20, to_all=True)
    assert [arrived(each) for each in await runner.next(3)] == [[(KEY, "x" * 20)]] * 3
    assert await shard.state.inbound_events() == []


async def test_what_two_subscriptions_of_an_execution_take_goes_to_the_first(shard, runner):
    await waiting(shard, runner, listen(key="one"), listen(key="two"))
    await shard.publish(data=1)
    [again] = await runner.next()
    assert arrived(again) == [("one", 1)]


async def test_events_find_those_who_want_their_values_before_and_after(shard, runner):
    await shard.publish(data={"order": 2})
    await shard.publish(data={"order": 3})
    await waiting(shard, runner, listen(order=1))
    two = await waiting(shard, runner, listen(order=9), listen(order=2, key="two"))
    [again] = await runner.next()
    assert (shard.core.leases.seq_of(again.lease), arrived(again)) == (two, [("two", {"order": 2})])
    await shard.publish(data={"order": 1.0})
    [again] = await runner.next()
    assert arrived(again) == [(KEY, {"order": 1.0})]
    await waiting(shard, runner, listen(order=3))
    [again] = await runner.next()
    assert arrived(again) == [(KEY, {"order": 3})]


async def test_who_stops_waiting_while_buffered_events_are_read_gets_none_of_them(shard, runner):
    await shard.publish(data={"order": 2})
    gate = shard.state.delay("inbound_payloads")
    seq = await waiting(shard, runner, listen(order=2))
    await shard.state.reading.wait()
    await shard.host.commands.cancel((await shard.record(seq)).id)
    gate.set()
    await waiting(shard, runner, listen(order=2))
    [again] = await runner.next()
    assert arrived(again) == [(KEY, {"order": 2})]


async def test_an_event_for_one_execution_is_for_no_other_and_requests_no_values(shard, runner):
    await waiting(shard, runner)
    its = await waiting(shard, runner, listen(order=5))
    await shard.publish(data={"order": 6}, execution_id=(await shard.record(its)).id)
    [again] = await runner.next()
    assert (shard.core.leases.seq_of(again.lease), arrived(again)) == (its, [(KEY, {"order": 6})])
    # it is kept while its execution is busy, and forgotten with it
    for _ in range(2):
        await shard.publish(execution_id=(await shard.record(its)).id)
    assert shard.host.events.buffered == 2
    await shard.settle(runner, again, Completed(b"1"))
    assert (shard.host.events.buffered, await shard.state.inbound_events()) == (0, [])
    assert (await shard.publish(execution_id=(await shard.record(its)).id)).gone


async def test_who_is_woken_by_time_or_suspended_gets_an_event_when_it_waits_again(shard, runner):
    now_ms = int(shard.wall() * 1000)
    await waiting(shard, runner, wake_at_ms=now_ms + 1000)
    shard.wall.ahead += 2
    [woken] = await runner.next()
    await shard.publish(data=1)
    await shard.park(runner, woken, listen())
    [again] = await runner.next()
    assert arrived(again) == [(KEY, 1)]
    await shard.park(runner, again, listen())
    execution_id = (await shard.record(shard.core.leases.seq_of(woken.lease) or 1)).id
    await shard.host.commands.suspend(execution_id)
    await shard.publish(data=2)
    await shard.host.commands.resume(execution_id)
    [again] = await runner.next()
    assert arrived(again) == [(KEY, 1)]
    await shard.park(runner, again, listen())
    [again] = await runner.next()
    assert arrived(again) == [(KEY, 1), (KEY, 2)]


async def test_what_an_execution_would_have_got_that_is_cancelled_meanwhile_goes_to_the_next(shard, runner):
    seq = await waiting(shard, runner)
    gate = shard.state.delay("journal_sizes")
    await shard.publish(data=1)
    await shard.state.reading.wait()
    await shard.host.commands.cancel((await shard.record(seq)).id)
    other = await waiting(shard, runner)
    gate.set()
    [again] = await runner.next()
    assert (shard.core.leases.seq_of(again.lease), arrived(again)) == (other, [(KEY, 1)])


async def test_an_execution_that_is_suspended_meanwhile_has_what_arrived_when_it_is_resumed(shard, runner):
    seq = await waiting(shard, runner)
    execution_id = (await shard.record(seq)).id
    gate = shard.state.delay("journal_sizes")
    await shard.publish(data=1)
    await shard.state.reading.wait()
    suspending = asyncio.create_task(shard.host.commands.suspend(execution_id))
    gate.set()
    await suspending
    assert (await shard.host.executions.find(execution_id)).status is Status.SUSPENDED
    for again in runner.deliveries[1:]:
        assert shard.core.leases.seq_of(again.lease) is None
    seen = len(runner.deliveries)
    await shard.host.commands.resume(execution_id)
    await runner.until(lambda: len(runner.deliveries) > seen)
    assert arrived(runner.deliveries[-1]) == [(KEY, 1)]


async def test_a_full_journal_faults_the_execution_and_the_event_goes_to_others(shard, runner, monkeypatch):
    monkeypatch.setattr("flowhook.limits.MAX_JOURNAL_ENTRIES", 2)
    full = await waiting(shard, runner, entries=[JournalEntry("a", b"1"), JournalEntry("b", b"1")])
    await shard.publish(data=1)
    await waiting(shard, runner)
    [again] = await runner.next()
    assert arrived(again) == [(KEY, 1)]
    record = await shard.record(full)
    assert (record.status, record.error.title) == (Status.FAULTED, "Runtime error")
    assert "its journal is full: at most 2 entries" in record.error.detail


async def test_a_flow_has_so_many_events_that_nobody_waits_for(shard, runner, monkeypatch):
    monkeypatch.setattr("flowhook.limits.MAX_BUFFERED_EVENTS", 2)
    await waiting(shard, runner, listen(order=1))
    for _ in range(2):
        await shard.publish(data={"order": 2})
    with pytest.raises(ExhaustedError) as caught:
        await shard.publish(data={"order": 2})
    assert (caught.value.reason, caught.value.retry_after > 0) == ("EVENT_BUFFER_FULL", True)
    await shard.publish("b", data={"order": 2})
    await shard.publish(data={"order": 1})
    [again] = await runner.next()
    assert arrived(again) == [(KEY, {"order": 1})]
    await shard.publish(execution_id=(await shard.record(1)).id)
    assert len(await shard.state.inbound_events()) == 4


async def test_all_flows_have_so_many(shard, monkeypatch):
    monkeypatch.setattr("flowhook.limits.MAX_TOTAL_BUFFERED_EVENTS", 1)
    arrivals = [NewInboundEvent(f"evt_{flow}", flow, True, "approval", 1, b"{}") for flow in "ab"]
    with pytest.raises(ExhaustedError):
        await shard.host.events.publish(arrivals)
    assert await shard.state.inbound_events() == []


async def test_a_buffered_event_expires(shard, runner):
    await shard.publish(data=1)
    shard.wall.ahead += 3601
    seq = await waiting(shard, runner)
    await shard.publish(data=2)
    [again] = await runner.next()
    assert (shard.core.leases.seq_of(again.lease), arrived(again), shard.host.events.buffered) == (seq, [(KEY, 2)], 0)


async def test_who_was_to_get_an_event_that_expired_just_then_asks_again(shard, runner):
    await shard.publish(data=1)
    [arrival] = await shard.state.inbound_events()
    await shard.state.write([Consumed(arrival.number)])  # as expiry does
    await waiting(shard, runner)
    [again] = await runner.next()
    assert arrived(again) == []


async def test_what_is_being_given_out_survives_that_storage_is_away(shard, runner, monkeypatch):
    monkeypatch.setattr("router.dispatch.state_writer.RETRY_SECONDS", 0.01)
    await waiting(shard, runner)
    shard.state.away = True
    await shard.publish(data=1)
    await shard.state.refused.wait()
    shard.state.away = False
    [again] = await runner.next()
    assert arrived(again) == [(KEY, 1)]


async def test_an_event_arrives_once(shard, runner):
    event_id = ids.mint(0)
    results = [await shard.publish(event_id=event_id, data=1) for _ in range(2)]
    assert [result.duplicate_of for result in results] == ["", event_id]
    await waiting(shard, runner)
    [again] = await runner.next()
    await shard.publish(event_id=event_id, data=1)
    await shard.park(runner, again, listen())
    assert (shard.core.waiting, shard.host.events.buffered) == (1, 0)


async def test_an_event_for_one_of_several_flows_does_not_lack_room_for_another(shard):
    arrivals = [NewInboundEvent(f"evt_{number}", f"f{number}", False, "paid", 1, b" " * 2**20) for number in range(20)]
    appended = await shard.host.events.publish(arrivals)
    assert [each.number for each in appended] == list(range(1, 21))


# --- restarts -------------------------------------------------------------------------------------------------------


async def test_what_a_dead_router_stored_and_did_not_give_out_is_given_out_at_the_next_start(tmp_path):
    async with running_host(tmp_path) as shard:
        runner = shard.attach()
        seqs = [await waiting(shard, runner, listen(order=order)) for order in (1, 2, 1)]
        await waiting(shard, runner, listen("refusal"))
    storage = await open_storage(tmp_path / "flowhook.db")
    fields = (True, "approval", 1, orjson.dumps({"data": {"order": 1}}), 2**45)
    await storage.log.append_inbound(
        [NewInboundEvent(f"evt_{number}", "a", *fields, to_all=True) for number in range(2)]
    )
    await storage.close()
    async with running_host(tmp_path) as shard:
        runner = shard.attach()
        found = {shard.core.leases.seq_of(each.lease): each for each in await runner.next(2)}
        assert {seq: arrived(each) for seq, each in found.items()} == {
            seq: [(KEY, {"order": 1})] for seq in (seqs[0], seqs[2])
        }
        assert shard.core.waiting == 2
        # the second one waits for whoever waits again
        await shard.park(runner, found[seqs[0]], listen(order=1))
        [again] = await runner.next()
        assert arrived(again) == [(KEY, {"order": 1})] * 2


async def test_what_is_for_one_execution_goes_to_one_at_the_next_start_too(tmp_path):
    async with running_host(tmp_path) as shard:
        runner = shard.attach()
        seqs = [await waiting(shard, runner) for _ in range(2)]
    storage = await open_storage(tmp_path / "flowhook.db")
    await storage.log.append_inbound([NewInboundEvent("evt_1", "a", True, "approval", 1, b'{"data":1}', 2**45)])
    await storage.close()
    async with running_host(tmp_path) as shard:
        runner = shard.attach()
        [again] = await runner.next()
        assert (shard.core.leases.seq_of(again.lease), shard.core.waiting) == (seqs[0], 1)


async def test_what_is_retained_and_who_waits_are_there_after_a_restart(tmp_path):
    async with running_host(tmp_path) as shard:
        runner = shard.attach()
        await waiting(shard, runner, listen(order=1))
        its = await waiting(shard, runner, listen("refusal"))
        await shard.publish(data={"order": 2})
        await shard.publish(data={"order": 4}, execution_id=(await shard.record(its)).id)
    async with running_host(tmp_path) as shard:
        runner = shard.attach()
        assert shard.host.events.buffered == 2
        await shard.publish(data={"order": 1})
        await shard.publish("a", "refusal", data={"order": 3})
        found = [arrived(each) for each in await runner.next(2)]
        assert sorted(found, key=str) == [[(KEY, {"order": order})] for order in (1, 3)]
        [refused] = [each for each in runner.deliveries if arrived(each) == [(KEY, {"order": 3})]]
        await shard.park(runner, refused, listen(order=9))
        [again] = await runner.next()
        assert arrived(again)[1:] == [(KEY, {"order": 4})]
        await waiting(shard, runner, listen(order=2))
        [again] = await runner.next()
        assert arrived(again) == [(KEY, {"order": 2})]


async def test_what_expired_while_no_router_ran_is_not_given_out(tmp_path):
    async with running_host(tmp_path, buffer_seconds=0.001) as shard:
        await shard.publish(data=1)
    async with running_host(tmp_path) as shard:
        runner = shard.attach()
        assert shard.host.events.buffered == 0
        assert shard.core.is_waiting(await waiting(shard, runner))


@pytest.mark.parametrize("retained", [False, True], ids=["taken", "retained"])
async def test_what_arrived_to_a_callback_is_parsed_once_whoever_waits_for_it(shard, runner, monkeypatch, retained):
    """It may be a MiB of JSON, and its sender chooses how long that takes."""
    seq = await waiting(shard, runner, listen(order=1), listen("approval", "/do/1/wait#0", order=2))
    parsed = []

    def counted(payload, real=orjson.loads):
        parsed.append(payload)
        return real(payload)

    with monkeypatch.context() as patched:
        patched.setattr("router.scheduling.matching.orjson.loads", counted)
        assert (await shard.publish(data={"order": 3 if retained else 2})).number == 1
    assert len(parsed) == 1
    assert shard.host.events.buffered == int(retained)
    assert seq
    if not retained:
        [again] = await runner.next()
        assert arrived(again) == [("/do/1/wait#0", {"order": 2})]


async def test_nothing_that_was_parsed_stays_in_memory(shard, runner, monkeypatch):
    """Parsed JSON takes thirty times its size: as many as are being stored must not add up."""
    await waiting(shard, runner, listen(order=1))
    contents = []
    monkeypatch.setattr(
        "router.dispatch.event_delivery.EventContent",
        lambda payload: contents.append(EventContent(payload)) or contents[-1],
    )
    storing = asyncio.ensure_future(shard.publish(data={"order": 2}))
    await asyncio.sleep(0)
    assert [content._parsed for content in contents] == [None]
    await storing
    assert [content._parsed for content in contents] == [None]
    contents.clear()
    assert not shard.host.events._contents
