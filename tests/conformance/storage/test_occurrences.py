"""What occurs to executions is stored with what changes them, and kept until it was told."""

import pytest

from flowhook.model import JournalEntry, Status
from router.storage.model import (
    Ended,
    Journaled,
    LifecyclePublished,
    LifecycleRecorded,
    Parked,
    Requeued,
    Resumed,
    Started,
    Suspended,
)


async def types(cluster):
    return [(each.seq, each.type) for each in await cluster.state.occurrences()]


async def test_what_occurred_is_kept_in_order_until_it_was_told_also_after_a_restart(cluster, new_event):
    first, second = await cluster.append(new_event(), new_event())
    await cluster.state.write([Started(first, 1), LifecycleRecorded(first, "started", 5)])
    await cluster.state.write([LifecycleRecorded(second, "faulted", 7), Ended(second, Status.FAULTED, 7, 1)])
    await cluster.restart()
    one, two = await cluster.state.occurrences()
    assert (one.seq, one.type, one.time_ms, two.seq, two.type, two.time_ms) == (
        first, "started", 5, second, "faulted", 7
    )  # fmt: skip
    assert one.number < two.number
    assert await cluster.state.occurrences(after_number=one.number) == [two]
    assert await cluster.state.occurrences(limit=1) == [one]
    await cluster.state.write([LifecyclePublished(one.number), LifecyclePublished(two.number)])
    assert await cluster.state.occurrences() == []


async def test_a_number_is_not_used_again(cluster, new_event):
    [seq] = await cluster.append(new_event())
    await cluster.state.write([LifecycleRecorded(seq, "a", 1)])
    [before] = await cluster.state.occurrences()
    await cluster.state.write([LifecyclePublished(before.number)])
    await cluster.restart()
    await cluster.state.write([LifecycleRecorded(seq, "a", 1)])
    assert (await cluster.state.occurrences())[0].number > before.number


async def test_nothing_occurs_to_an_execution_that_has_ended(cluster, new_event):
    [seq] = await cluster.append(new_event())
    await cluster.state.write([Ended(seq, Status.COMPLETED, 7, 1), LifecycleRecorded(seq, "late", 7)])
    await cluster.state.write([Ended(seq, Status.FAULTED, 8, 1), LifecycleRecorded(seq, "later", 8)])
    await cluster.state.write([LifecycleRecorded(seq, "last", 8)])
    assert await types(cluster) == []


async def test_nothing_is_kept_of_quiet_executions_and_unknown_ones(cluster, new_event):
    quiet, loud = await cluster.append(new_event(quiet=True), new_event())
    await cluster.state.write(
        [LifecycleRecorded(quiet, "a", 1), LifecycleRecorded(loud, "a", 1), LifecycleRecorded(99, "a", 1)]
    )
    assert await types(cluster) == [(loud, "a")]
    records = await cluster.state.records([quiet, loud])
    assert (records[quiet].quiet, records[loud].quiet) == (True, False)


@pytest.mark.parametrize(
    "earlier",
    [
        [Started(1, 1)],
        [Parked(1, 5, 1)],
        [Requeued(1, 0)],
        [Suspended(1, 0, term=1)],
        [Suspended(1, 0, term=1), Resumed(1, 0)],
        [LifecycleRecorded(1, "began", 1, first=True), Started(1, 1)],
    ],
    ids=str,
)
async def test_what_comes_first_is_kept_once(cluster, new_event, earlier):
    await cluster.append(new_event())
    await cluster.state.write(earlier)
    before = await types(cluster)
    await cluster.state.write([LifecycleRecorded(1, "began", 2, first=True)])
    assert await types(cluster) == before


@pytest.mark.parametrize("earlier", [[], [Suspended(1, 0)], [Suspended(1, 0), Resumed(1, 0)]], ids=str)
async def test_an_execution_that_no_runner_had_has_its_first_occurrence_before_it(cluster, new_event, earlier):
    await cluster.append(new_event())
    if earlier:
        await cluster.state.write(earlier)
    began = LifecycleRecorded(1, "began", 2, first=True)
    await cluster.state.write([began, Started(1, 1), began, Ended(1, Status.COMPLETED, 3, 1)])
    assert await types(cluster) == [(1, "began")]


async def test_a_resumed_execution_waits_for_a_runner_as_it_did_before(cluster, new_event):
    await cluster.append(new_event(), new_event())
    await cluster.state.write([Suspended(1, 0), Suspended(2, 0, term=1)])
    await cluster.state.write([Resumed(1, 0), Resumed(2, 0)])
    assert [(each.status, each.term) for each in await cluster.state.unfinished()] == [
        (Status.PENDING, 0),
        (Status.PENDING, 1),
    ]


async def test_what_a_runner_says_of_an_occurrence_is_kept_with_it(cluster, new_event):
    [seq] = await cluster.append(new_event())
    within = LifecycleRecorded(seq, "task", 5, key="7.1", data=b'{"task":"/do/0/a"}')
    await cluster.state.write([Journaled(seq, 0, JournalEntry("k", b"1")), within, LifecycleRecorded(seq, "other", 5)])
    await cluster.restart()
    one, two = await cluster.state.occurrences()
    assert (one.type, one.time_ms, one.key, one.data) == ("task", 5, "7.1", b'{"task":"/do/0/a"}')
    assert (two.key, two.data) == ("", b"")
