from __future__ import annotations

import asyncio
import logging

import pytest

from edge.router.ingest import DEPTH, ENOUGH_BYTES, ENOUGH_EVENTS, IngestBatcher, IngestUnavailableError
from edge.webhook.log_limiter import RateLimitedLogger
from flowhook import limits
from flowhook.errors import InvalidError, UnavailableError
from flowhook.process import logs
from flowhook.retrying import BackoffPolicy
from flowhook.v1.envelope_pb2 import Event
from flowhook.v1.ingest_service_pb2 import Accepted, IngestResult
from flowhook.wire.status import failure_to_proto


@pytest.fixture
async def make(router, counts, running):
    def start(*, timeout=5.0, max_pending=1000, **options):
        log = RateLimitedLogger(logs.get_logger("test"), asyncio.get_running_loop().time)
        ingest = IngestBatcher(router, counts, log, timeout=timeout, max_pending=max_pending, **options)
        start.task = running(ingest.run())
        return ingest

    return start


FIRST = ["first", "second", "third"]
"""Events of a batch that the next one waits for."""


@pytest.fixture
def held(make, router, settled):
    """Starts a batcher whose first batch the router holds; returns it, and the events of that batch."""

    async def start(**options):
        ingest = make(**options)
        router.gate.clear()
        first = submit(ingest, *FIRST)
        await settled()
        return ingest, first

    return start


def submit(ingest, *ids, size=100):
    return [asyncio.ensure_future(ingest.submit(Event(id=each), size)) for each in ids]


async def outcomes(tasks):
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_each_event_gets_its_own_result(make):
    results = await outcomes(submit(make(), "a", "b", "c"))
    assert [result.accepted.execution_id for result in results] == ["a", "b", "c"]


async def test_events_of_one_turn_of_the_loop_are_one_batch(make, router, settled):
    ingest = make()
    await settled()
    await outcomes(submit(ingest, "a", "b", "c"))
    assert router.batches == [["a", "b", "c"]]


async def test_what_arrives_while_a_call_is_in_flight_waits_for_its_result_and_goes_together(held, router, settled):
    ingest, tasks = await held()
    for each in "abcd":
        tasks += submit(ingest, each)
        await settled()
    assert router.batches == [FIRST]
    router.gate.set()
    await outcomes(tasks)
    assert router.batches == [FIRST, ["a", "b", "c", "d"]]


async def test_beside_a_batch_of_few_events_the_next_one_is_sent_at_once(make, router, settled):
    ingest = make()
    router.gate.clear()
    tasks = []
    for each in "abcde":
        tasks += submit(ingest, each)
        await settled()
    assert router.batches == [["a"], ["b"]]
    router.gate.set()
    await outcomes(tasks)
    assert router.batches == [["a"], ["b"], ["c", "d", "e"]]


async def test_a_large_enough_batch_is_sent_while_another_one_is_in_flight_and_no_third(held, router, settled):
    ingest, tasks = await held()
    events = [str(number) for number in range(2 * ENOUGH_EVENTS)]
    for each in events:
        tasks += submit(ingest, each)
        await settled()
    assert router.batches == [FIRST, events[:ENOUGH_EVENTS]]
    router.gate.set()
    await outcomes(tasks)
    assert router.batches == [FIRST, events[:ENOUGH_EVENTS], events[ENOUGH_EVENTS:]]
    assert DEPTH == 2


async def test_large_events_are_a_large_enough_batch(held, router, settled):
    ingest, tasks = await held()
    for each in "bcd":
        tasks += submit(ingest, each, size=ENOUGH_BYTES // 2)
        await settled()
    assert router.batches == [FIRST, ["b", "c"]]
    router.gate.set()
    await outcomes(tasks)


async def test_events_that_expired_in_the_queue_count_for_no_batch(held, router, settled):
    ingest, expired = await held(timeout=0.01)
    expired += submit(ingest, "b", size=ENOUGH_BYTES - 1000)
    await outcomes(expired)
    kept = submit(ingest, "c", size=10_000)
    await settled()
    assert router.batches == [FIRST]
    router.gate.set()
    await outcomes(kept)


async def test_after_a_large_batch_the_next_one_is_held_until_it_is_half_as_large(make, router, settled, monkeypatch):
    monkeypatch.setattr("edge.router.ingest.HOLD_SECONDS", 1000.0)
    ingest = make()
    await settled()
    await outcomes(submit(ingest, *"abcdefgh"))
    tasks = []
    for each in "123":
        tasks += submit(ingest, each)
        await settled()
    assert len(router.batches) == 1
    tasks += submit(ingest, "4")
    await outcomes(tasks)
    assert router.batches[1:] == [["1", "2", "3", "4"]]


async def test_a_batch_is_held_for_a_moment_only(make, router, settled):
    ingest = make()
    await settled()
    await outcomes(submit(ingest, *"abcdefgh"))
    await outcomes(submit(ingest, "1"))
    await outcomes(submit(ingest, "2"))
    assert router.batches[1:] == [["1"], ["2"]]


async def test_events_that_are_few_are_not_held(make, router, settled, monkeypatch):
    monkeypatch.setattr("edge.router.ingest.HOLD_SECONDS", 1000.0)
    ingest = make()
    await settled()
    for batch in ("abc", "d", "e"):
        await outcomes(submit(ingest, *batch))
    assert router.batches == [["a", "b", "c"], ["d"], ["e"]]


async def test_with_a_minimum_of_one_event_a_batch_waits_for_no_result(held, router, settled):
    ingest, tasks = await held(enough_events=1)
    for each in "abcd":
        tasks += submit(ingest, each)
        await settled()
    router.gate.set()
    await outcomes(tasks)
    assert router.batches == [FIRST, ["a"], ["b", "c", "d"]]


async def test_a_batch_is_bounded_in_events(make, router, settled):
    ingest = make()
    await settled()
    await outcomes(submit(ingest, *(str(each) for each in range(limits.MAX_BATCH_EVENTS + 1))))
    assert [len(batch) for batch in router.batches] == [limits.MAX_BATCH_EVENTS, 1]


async def test_a_batch_is_bounded_in_bytes(make, router, settled):
    ingest = make()
    await settled()
    await outcomes(submit(ingest, "a", "b", "c", size=limits.MAX_BATCH_BYTES // 2 - 1000))
    assert router.batches == [["a", "b"], ["c"]]


async def test_only_events_that_a_router_was_storing_when_it_lost_the_shard_are_sent_again(make, router, settled):
    ingest = make()
    await settled()
    stored = IngestResult(accepted=Accepted(execution_id="a"))
    lost, full = (
        IngestResult(rejected=failure_to_proto(UnavailableError("why", reason=reason)))
        for reason in ("SHARD_LOST", "STORAGE_FULL")
    )
    router.responses = [[stored, lost, full], [lost]]
    results = await outcomes(submit(ingest, "a", "b", "c"))
    assert [result.accepted.execution_id for result in results] == ["a", "b", ""]
    assert results[2].rejected.reason == "STORAGE_FULL"
    assert router.batches == [["a", "b", "c"], ["b"], ["b"]]


async def test_a_failed_call_is_made_again_with_the_same_events(make, router, settled, counts):
    ingest = make()
    await settled()
    router.responses = [UnavailableError("away"), UnavailableError("away")]
    results = await outcomes(submit(ingest, "a", "b"))
    assert [result.accepted.execution_id for result in results] == ["a", "b"]
    assert router.batches == [["a", "b"]] * 3
    assert counts.retries == 2


async def test_while_a_batch_waits_to_be_sent_again_others_are_sent_at_once(make, held, router, settled, monkeypatch):
    monkeypatch.setattr("edge.router.ingest.CALL", BackoffPolicy(1000.0, 1000.0))
    ingest, first = await held()
    queued = submit(ingest, "queued")
    await settled()
    router.responses = [UnavailableError("away")]
    router.gate.set()
    (result,) = await outcomes(queued)
    assert result.accepted.execution_id == "queued"
    (result,) = await outcomes(submit(ingest, "later"))
    assert result.accepted.execution_id == "later"
    assert not any(each.done() for each in first)
    make.task.cancel()
    assert all(isinstance(each, IngestUnavailableError) for each in await outcomes(first))


async def test_an_event_whose_fate_is_unknown_at_its_deadline_is_unavailable(make, router):
    ingest = make(timeout=0.01)
    router.gate.clear()
    (outcome,) = await outcomes(submit(ingest, "a"))
    assert isinstance(outcome, IngestUnavailableError)
    assert ingest.pending == 0
    router.gate.set()


async def test_a_router_that_is_away_is_waited_for_until_the_deadline_of_each_event(make, router):
    """Each is given up for its own deadline, be its batch asked for again or queued behind others."""
    ingest = make(timeout=0.3)
    loop = asyncio.get_running_loop()
    router.responses = [UnavailableError("away")] * 1000

    async def wait(event):
        began = loop.time()
        (outcome,) = await outcomes(submit(ingest, event))
        return outcome, loop.time() - began

    waiting = []
    for number in range(6):
        waiting.append(asyncio.create_task(wait(f"{number}")))
        await asyncio.sleep(0.02)
    for outcome, seconds in await asyncio.gather(*waiting):
        assert isinstance(outcome, IngestUnavailableError)
        assert seconds >= 0.3


async def test_an_event_still_queued_at_its_deadline_is_never_sent(make, router, settled):
    ingest = make(timeout=0.01)
    router.gate.clear()
    tasks = []
    for each in "abc":
        tasks += submit(ingest, each)
        await settled()
    assert all(isinstance(outcome, IngestUnavailableError) for outcome in await outcomes(tasks))
    router.gate.set()
    await settled()
    assert router.batches == [["a"], ["b"]]


async def test_beyond_what_may_wait_events_are_refused_at_once(make, router, settled):
    ingest = make(max_pending=2)
    router.gate.clear()
    tasks = submit(ingest, "a", "b", "c")
    await settled()
    assert tasks[2].done()
    router.gate.set()
    assert [isinstance(each, IngestUnavailableError) for each in await outcomes(tasks)] == [False, False, True]


async def test_waiting_bytes_are_bounded(make, router, settled):
    ingest = make()
    router.gate.clear()
    tasks = submit(ingest, *(str(each) for each in range(20)), size=limits.MAX_BODY_BYTES)
    await settled()
    refused = [task for task in tasks if task.done()]
    assert 0 < len(refused) < 20
    router.gate.set()
    await outcomes(tasks)


@pytest.mark.parametrize("answer", [InvalidError("no", reason="BATCH_INVALID"), []])
async def test_a_call_that_can_not_succeed_is_not_made_again(make, router, settled, answer, caplog):
    ingest = make()
    await settled()
    router.responses = [answer or [None] * 5]
    with caplog.at_level(logging.WARNING):
        (outcome,) = await outcomes(submit(ingest, "a"))
    assert isinstance(outcome, IngestUnavailableError)
    assert len(router.batches) == 1


async def test_what_waits_at_the_end_is_given_up(make, router, settled):
    ingest = make()
    router.gate.clear()
    tasks = []
    for each in "abc":
        tasks += submit(ingest, each)
        await settled()
    make.task.cancel()
    assert all(isinstance(outcome, IngestUnavailableError) for outcome in await outcomes(tasks))
