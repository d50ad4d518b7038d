"""Appending events, each once."""

import asyncio

import pytest

from flowhook import limits
from router.storage.model import Appended

LARGE = bytes(range(256)) * (limits.INLINE_BODY_BYTES // 256 + 1)


async def test_sequence_numbers_ascend_from_one_in_order_of_the_call(cluster, new_event):
    first = await cluster.log.append([new_event() for _ in range(3)])
    second = await cluster.log.append([new_event()])
    assert first == [Appended(1), Appended(2), Appended(3)]
    assert second == [Appended(4)]


async def test_appending_nothing_answers_nothing(cluster):
    assert await cluster.log.append([]) == []


async def test_an_event_id_is_stored_once_across_calls(cluster, new_event):
    event = new_event(payload=b"first")
    await cluster.log.append([event])
    again = await cluster.log.append([event._replace(payload=b"second")])
    assert again == [Appended(1, event.event_id)]
    assert (await cluster.state.content(1)).payload == b"first"


async def test_an_event_id_is_stored_once_within_one_call(cluster, new_event):
    event = new_event()
    assert await cluster.log.append([event, new_event(), event]) == [
        Appended(1),
        Appended(2),
        Appended(1, event.event_id),
    ]


async def test_an_event_id_is_stored_once_across_calls_under_way_together(cluster, new_event):
    event = new_event()
    results = await asyncio.gather(*(cluster.log.append([event]) for _ in range(20)))
    assert sorted(results) == [[Appended(1)]] + [[Appended(1, event.event_id)]] * 19


async def test_an_event_id_is_remembered_over_a_restart(cluster, new_event):
    event = new_event()
    await cluster.log.append([event])
    await cluster.restart()
    assert await cluster.log.append([event, new_event()]) == [Appended(1, event.event_id), Appended(2)]


async def test_an_event_id_that_another_flow_has_is_taken_and_the_others_of_the_call_are_stored(cluster, new_event):
    event = new_event()
    of_another_flow = event._replace(flow_id="bank", dedupe_key="k", dedupe_until_ms=2**45)
    assert await cluster.log.append([event, of_another_flow, new_event("bank")]) == [
        Appended(1),
        Appended(0, taken=True),
        Appended(2),
    ]
    await cluster.restart()
    assert await cluster.log.append([of_another_flow, event]) == [Appended(0, taken=True), Appended(1, event.event_id)]
    stored = new_event("bank", dedupe_key="k", dedupe_until_ms=2**45)
    assert await cluster.log.append([stored]) == [Appended(3)], "what was not stored has no key"


async def test_a_dedupe_key_is_taken_once_within_its_window(cluster, new_event):
    first = new_event(dedupe_key="delivery-1", receive_time_ms=1_000, dedupe_until_ms=5_000)
    inside = new_event(dedupe_key="delivery-1", receive_time_ms=4_999, dedupe_until_ms=9_000)
    outside = new_event(dedupe_key="delivery-1", receive_time_ms=5_000, dedupe_until_ms=9_000)
    assert await cluster.log.append([first]) == [Appended(1)]
    assert await cluster.log.append([inside]) == [Appended(1, first.event_id)]
    assert await cluster.log.append([outside]) == [Appended(2)]
    later = new_event(dedupe_key="delivery-1", receive_time_ms=5_001, dedupe_until_ms=9_000)
    assert await cluster.log.append([later]) == [Appended(2, outside.event_id)]


async def test_a_dedupe_key_is_taken_once_within_one_call(cluster, new_event):
    events = [new_event(dedupe_key="delivery-1", dedupe_until_ms=9_000) for _ in range(3)]
    assert await cluster.log.append(events) == [
        Appended(1),
        Appended(1, events[0].event_id),
        Appended(1, events[0].event_id),
    ]


async def test_a_dedupe_key_is_scoped_to_its_flow(cluster, new_event):
    events = [new_event(flow, dedupe_key="delivery-1", dedupe_until_ms=9_000) for flow in ("shop", "bank")]
    assert await cluster.log.append(events) == [Appended(1), Appended(2)]


async def test_a_dedupe_key_is_remembered_over_a_restart(cluster, new_event):
    first, second = (new_event(dedupe_key="delivery-1", dedupe_until_ms=9_000) for _ in range(2))
    await cluster.log.append([first])
    await cluster.restart()
    assert await cluster.log.append([second]) == [Appended(1, first.event_id)]


async def test_events_without_a_dedupe_key_are_never_duplicates_of_one_another(cluster, new_event):
    assert await cluster.append(new_event(), new_event()) == [1, 2]


async def test_the_id_of_a_duplicate_is_not_taken(cluster, new_event):
    first, second = (new_event(dedupe_key="delivery-1", dedupe_until_ms=9_000) for _ in range(2))
    await cluster.log.append([first, second])
    assert await cluster.state.find(second.event_id) is None
    assert await cluster.log.append([second._replace(dedupe_key="")]) == [Appended(2)]


async def test_a_batch_larger_than_any_statement_is_stored_whole_and_in_order(cluster, new_event):
    events = [new_event(payload=str(number).encode()) for number in range(limits.MAX_BATCH_EVENTS + 1)]
    assert await cluster.append(*events) == list(range(1, len(events) + 1))
    work = await cluster.state.work(range(1, len(events) + 1))
    assert [work[seq].payload for seq in sorted(work)] == [event.payload for event in events]


@pytest.mark.parametrize("payload", [b"", b"\x00\xff" * 10, LARGE], ids=["empty", "binary", "large"])
async def test_a_payload_comes_back_byte_for_byte_also_after_a_restart(cluster, new_event, payload):
    await cluster.append(new_event(payload=payload))
    await cluster.restart()
    assert (await cluster.state.work([1]))[1].payload == payload
    assert (await cluster.state.content(1)).payload == payload


async def test_a_large_duplicate_leaves_the_first_payload_alone(cluster, new_event):
    event = new_event(payload=LARGE)
    twin = event._replace(payload=LARGE + b"other")
    results = await asyncio.gather(cluster.log.append([event]), cluster.log.append([twin]))
    first = event if results[0] == [Appended(1)] else twin
    assert (await cluster.state.content(1)).payload == first.payload
    await cluster.restart()
    assert (await cluster.state.content(1)).payload == first.payload


async def test_followers_are_told_of_new_events_in_log_order_before_append_returns(cluster, new_event):
    told = []
    cluster.state.follow(told.extend)

    async def append(event):
        [appended] = await cluster.log.append([event])
        assert any(logged.seq == appended.seq for logged in told)
        return appended

    events = [new_event() for _ in range(100)]
    await asyncio.gather(*(append(event) for event in (*events, events[0])))
    assert [logged.seq for logged in told] == list(range(1, 101))
    assert {logged.event for logged in told} == set(events)


async def test_a_follower_that_fails_fails_no_sender(cluster, new_event):
    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def listener(_):
        raise RuntimeError("a follower's defect")

    cluster.state.follow(listener)
    assert await cluster.append(new_event()) == [1]
    assert [str(failure) for failure in failures] == ["a follower's defect"]


async def test_a_cancelled_append_leaves_the_log_in_order(cluster, new_event):
    appending = asyncio.ensure_future(cluster.log.append([new_event(payload=LARGE)]))
    await asyncio.sleep(0)
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    [seq] = await cluster.append(new_event())
    found = await cluster.state.unfinished()
    assert seq in [unfinished.seq for unfinished in found]
    assert set(await cluster.state.work([unfinished.seq for unfinished in found])) == {
        unfinished.seq for unfinished in found
    }
