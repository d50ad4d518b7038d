"""Bulk jobs: their states, and the outcomes of their items."""

from __future__ import annotations

import itertools
import random

import pytest

from flowhook.errors import ConflictError, ExhaustedError, NotFoundError
from flowhook.model.jobs import ItemOutcome, JobItem, JobState, ReplayEnds
from router.storage import jobs as sqlite_jobs
from router.storage.jobs import NewJob

LATER = 2**46
"""A time in Unix milliseconds when everything here is past."""

_numbers = itertools.count(1)


def new_job(**fields):
    return NewJob(**({"id": f"job_{next(_numbers):026}", "spec": b"spec", "create_time_ms": 1_000} | fields))


async def running(cluster, **fields):
    job = await cluster.storage.jobs.create(new_job(**fields))
    return await cluster.storage.jobs.change_state(job.id, JobState.RUNNING, now_ms=2_000)


def outcome(item, outcome=ItemOutcome.DONE, **fields):
    values = {"reason": "", "message": "", "new_execution_id": "", "time_ms": 3_000} | fields
    return JobItem(item.number, item.execution_id, outcome, **values)


async def test_a_job_knows_the_executions_that_were_accepted_before_it(cluster, new_event):
    await cluster.append(new_event(), new_event())
    job = await cluster.storage.jobs.create(new_job(expected=2))
    await cluster.append(new_event())
    assert (job.last_seq, job.cursor, job.expected, job.state) == (2, 0, 2, JobState.PENDING)
    await cluster.restart()
    assert await cluster.storage.jobs.get(job.id) == job


async def test_a_request_that_is_repeated_creates_one_job(cluster):
    first = await cluster.storage.jobs.create(new_job(request_id="r"))
    assert await cluster.storage.jobs.create(new_job(request_id="r")) == first
    assert await cluster.storage.jobs.page() == [first]


async def test_jobs_are_listed_newest_first_and_page_by_page(cluster):
    jobs = [await cluster.storage.jobs.create(new_job()) for _ in range(3)]
    assert await cluster.storage.jobs.page() == jobs[::-1]
    (newest,) = await cluster.storage.jobs.page(limit=1)
    assert await cluster.storage.jobs.page(before_number=newest.number, limit=1) == [jobs[1]]


async def test_the_data_of_a_job_are_stored_until_it_ends(cluster):
    data = random.Random(1).randbytes(2**18)  # more than a record of a replicated log
    jobs = [await cluster.storage.jobs.create(new_job(data=data)) for _ in range(2)]
    other = await cluster.storage.jobs.create(new_job())
    await cluster.restart()
    assert [await cluster.storage.jobs.data(job.number) for job in (*jobs, other)] == [data, data, b""]
    assert [job.data_bytes for job in await cluster.storage.jobs.page()] == [0, len(data), len(data)]
    await cluster.storage.jobs.change_state(jobs[0].id, JobState.PAUSED, now_ms=2_000)
    ended = await cluster.storage.jobs.change_state(jobs[1].id, JobState.ABORTED, now_ms=2_000)
    assert [await cluster.storage.jobs.data(job.number) for job in jobs] == [data, b""]
    assert ended.data_bytes == len(data)


async def test_the_data_of_jobs_that_have_not_ended_are_limited(cluster, monkeypatch):
    monkeypatch.setattr(sqlite_jobs, "MAX_DATA_BYTES", 10)
    job = await cluster.storage.jobs.create(new_job(data=b"1234567890"))
    with pytest.raises(ExhaustedError) as caught:
        await cluster.storage.jobs.create(new_job(data=b"1"))
    assert caught.value.reason == "TOO_MANY_JOBS"
    await cluster.storage.jobs.create(new_job())
    await cluster.storage.jobs.change_state(job.id, JobState.COMPLETED, now_ms=2_000)
    await cluster.storage.jobs.create(new_job(data=b"1"))


async def test_items_are_claimed_settled_and_counted(cluster):
    job = await running(cluster)
    items = await cluster.storage.jobs.claim(job.number, [(5, "evt_a"), (7, "evt_b")], cursor=7, now_ms=2_500)
    assert [(item.number, item.seq, item.execution_id) for item in items] == [(1, 5, "evt_a"), (2, 7, "evt_b")]
    await cluster.restart()
    assert await cluster.storage.jobs.claimed(job.number) == items
    settled = [outcome(items[0], new_execution_id="evt_c"), outcome(items[1], ItemOutcome.FAILED, reason="R")]
    await cluster.storage.jobs.settle(job.number, settled)
    await cluster.storage.jobs.settle(job.number, settled)
    assert await cluster.storage.jobs.claimed(job.number) == []
    assert await cluster.storage.jobs.items(job.number) == settled
    assert await cluster.storage.jobs.items(job.number, after_number=1, limit=1) == settled[1:]
    assert await cluster.storage.jobs.items(job.number, outcome=ItemOutcome.DONE) == settled[:1]
    after = await cluster.storage.jobs.get(job.id)
    assert (after.cursor, after.matched, after.done, after.skipped, after.failed) == (7, 2, 1, 0, 1)


async def test_claims_that_are_released_were_never_made(cluster):
    job = await running(cluster)
    items = await cluster.storage.jobs.claim(job.number, [(5, "evt_a"), (7, "evt_b")], cursor=7, now_ms=2_500)
    await cluster.storage.jobs.settle(job.number, [outcome(items[0])])
    await cluster.storage.jobs.release(job.number, cursor=5)
    after = await cluster.storage.jobs.get(job.id)
    assert (after.cursor, after.matched, after.done) == (5, 1, 1)
    [again] = await cluster.storage.jobs.claim(job.number, [(7, "evt_b")], cursor=7, now_ms=2_600)
    assert again.number == 2


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.PAUSED, JobState.ABORTED, JobState.COMPLETED])
async def test_only_a_running_job_claims(cluster, state):
    job = await running(cluster)
    if state is JobState.PENDING:
        job = await cluster.storage.jobs.create(new_job())
    else:
        await cluster.storage.jobs.change_state(job.id, state, now_ms=3_000)
    before = await cluster.storage.jobs.get(job.id)
    assert await cluster.storage.jobs.claim(job.number, [(5, "evt_a")], cursor=5, now_ms=4_000) is None
    assert await cluster.storage.jobs.get(job.id) == before


async def test_a_paused_job_is_not_completed_and_waits_for_its_turn_when_it_is_resumed(cluster):
    job = await running(cluster)
    paused = await cluster.storage.jobs.change_state(job.id, JobState.PAUSED, now_ms=3_000)
    for refused in (JobState.COMPLETED, JobState.RUNNING, JobState.PAUSED):
        assert await cluster.storage.jobs.change_state(job.id, refused, now_ms=4_000) == paused
    resumed = await cluster.storage.jobs.change_state(job.id, JobState.PENDING, now_ms=5_000)
    assert (resumed.state, resumed.start_time_ms) == (JobState.PENDING, 2_000)
    again = await cluster.storage.jobs.change_state(job.id, JobState.RUNNING, now_ms=6_000)
    assert (again.state, again.start_time_ms) == (JobState.RUNNING, 2_000)
    assert await cluster.storage.jobs.change_state(job.id, JobState.PENDING, now_ms=7_000) == again


async def test_a_job_that_ended_stays_as_it_is(cluster):
    job = await running(cluster)
    ended = await cluster.storage.jobs.change_state(job.id, JobState.ABORTED, now_ms=3_000)
    assert ended.end_time_ms == 3_000
    assert await cluster.storage.jobs.change_state(job.id, JobState.ABORTED, now_ms=4_000) == ended
    for state in (JobState.PENDING, JobState.RUNNING, JobState.PAUSED, JobState.COMPLETED):
        with pytest.raises(ConflictError) as caught:
            await cluster.storage.jobs.change_state(job.id, state, now_ms=4_000)
        assert caught.value.reason == "JOB_ENDED"


async def test_an_unknown_job_is_not_found(cluster):
    assert await cluster.storage.jobs.get("job_none") is None
    with pytest.raises(NotFoundError):
        await cluster.storage.jobs.change_state("job_none", JobState.PAUSED, now_ms=1)


async def test_jobs_with_something_left_to_do_are_found(cluster):
    pending, claiming, aborted, completed = [await running(cluster) for _ in range(4)]
    for job in (claiming, aborted):
        await cluster.storage.jobs.claim(job.number, [(5, "evt_a")], cursor=5, now_ms=1)
    await cluster.storage.jobs.change_state(aborted.id, JobState.ABORTED, now_ms=1)
    await cluster.storage.jobs.change_state(completed.id, JobState.COMPLETED, now_ms=1)
    assert [job.id for job in await cluster.storage.jobs.unended()] == [pending.id, claiming.id, aborted.id]


async def test_outcomes_beyond_the_limit_are_only_counted(cluster, monkeypatch):
    monkeypatch.setattr(sqlite_jobs, "MAX_ITEMS", 1)
    job = await running(cluster)
    items = await cluster.storage.jobs.claim(job.number, [(5, "evt_a"), (7, "evt_b")], cursor=7, now_ms=2_500)
    for _ in range(2):
        await cluster.storage.jobs.settle(job.number, [outcome(item) for item in items])
    assert [item.execution_id for item in await cluster.storage.jobs.items(job.number)] == ["evt_a"]
    assert (await cluster.storage.jobs.get(job.id)).done == 2


async def test_the_oldest_job_that_ended_makes_room(cluster, monkeypatch):
    monkeypatch.setattr(sqlite_jobs, "MAX_JOBS", 2)
    first, second = [await running(cluster) for _ in range(2)]
    with pytest.raises(ExhaustedError) as caught:
        await cluster.storage.jobs.create(new_job())
    assert caught.value.reason == "TOO_MANY_JOBS"
    await cluster.storage.jobs.change_state(second.id, JobState.COMPLETED, now_ms=1)
    third = await cluster.storage.jobs.create(new_job(request_id="r"))
    assert [job.id for job in await cluster.storage.jobs.page()] == [third.id, first.id]
    assert await cluster.storage.jobs.get(second.id) is None


async def test_jobs_expire_with_their_items(cluster):
    ended, unended = await running(cluster), await running(cluster)
    for job in (ended, unended):
        items = await cluster.storage.jobs.claim(
            job.number, [(seq, f"evt_{seq}") for seq in range(1, 301)], cursor=300, now_ms=1
        )
        await cluster.storage.jobs.settle(job.number, [outcome(item) for item in items])
    await cluster.storage.jobs.change_state(ended.id, JobState.COMPLETED, now_ms=5_000)
    await cluster.state.expire(ended_before_ms=5_000)
    assert await cluster.storage.jobs.get(ended.id) is not None
    await cluster.state.expire(ended_before_ms=LATER)
    assert [job.id for job in await cluster.storage.jobs.page()] == [unended.id]
    assert await cluster.storage.jobs.items(ended.number) == []
    assert len(await cluster.storage.jobs.items(unended.number)) == 300


async def test_what_became_of_replays_is_counted_while_there_is_time(cluster, new_event, monkeypatch):
    events = [new_event() for _ in range(3)]
    seqs = await cluster.append(*events)
    ids = [event.event_id for event in events[:2]]
    job = await running(cluster)
    executions = [(seq, event.event_id) for seq, event in zip(seqs, events, strict=True)]
    items = await cluster.storage.jobs.claim(job.number, executions, cursor=seqs[-1], now_ms=2_500)
    await cluster.storage.jobs.settle(
        job.number, [outcome(item, new_execution_id=each) for item, each in zip(items, [*ids, "evt_gone"], strict=True)]
    )
    ends = await cluster.storage.jobs.replay_ends(job.number, started=3)
    assert ends == ReplayEnds(0, 0, 0, 2, 1)
    assert (await cluster.storage.jobs.items(job.number))[2].new_execution_status is None
    monkeypatch.setattr(sqlite_jobs, "COUNT_SECONDS", -1.0)
    assert await cluster.storage.jobs.replay_ends(job.number, started=3) == ReplayEnds(0, 0, 0, 0, 3)
