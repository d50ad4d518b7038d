"""What is kept of the tasks of executions, for people."""

from flowhook import limits
from flowhook.model import JournalEntry, Status
from router.storage.limits import StorageLimits
from router.storage.model import Ended, Journaled, Parked


def entry(seq, index, history=b"", *, compacts=False):
    return Journaled(seq, index, JournalEntry("@" if compacts else f"/do/{index}/a#0", b"1"), compacts, history)


async def histories(cluster, seq):
    return await cluster.state.history(seq)


async def test_history_is_kept_in_the_order_it_was_told_in_also_after_a_restart(cluster, new_event):
    (seq,) = await cluster.append(new_event())
    await cluster.state.write([entry(seq, 0, b"[0]"), entry(seq, 1)])
    await cluster.state.write([Parked(seq, 9, 1, history=b"[1]")])
    await cluster.state.write([entry(seq, 2, b"[2]")])
    await cluster.state.write([Ended(seq, Status.FAULTED, 5, 1, history=b"[3]")])
    await cluster.restart()
    assert await histories(cluster, seq) == (b"[0]", b"[1]", b"[2]", b"[3]")
    assert (await cluster.state.content(seq)).output is None


async def test_history_is_located_by_the_entry_that_was_written_next(cluster, new_event):
    (seq,) = await cluster.append(new_event())
    await cluster.state.write([entry(seq, 0, b"[0]"), entry(seq, 1)])
    await cluster.state.write([Parked(seq, 9, 1, history=b"[2]")])
    await cluster.state.write([entry(seq, 2, b"[2, 2]"), entry(seq, 3, b"[3]", compacts=True), entry(seq, 4, b"[4]")])
    await cluster.state.write([Ended(seq, Status.COMPLETED, 5, 1, b"{}", history=b"[5]")])
    (*located, last) = await cluster.state.located_history(seq)
    assert located == [(0, b"[0]"), (2, b"[2]"), (2, b"[2, 2]"), (3, b"[3]"), (4, b"[4]")]
    assert last[0] > 4
    assert last[1] == b"[5]"


async def test_history_outlives_the_entries_that_are_compacted(cluster, new_event):
    (seq,) = await cluster.append(new_event())
    await cluster.state.write([entry(seq, 0, b"[0]"), entry(seq, 1, b"[1]")])
    await cluster.state.write([entry(seq, 2, b"[2]", compacts=True)])
    await cluster.state.write([entry(seq, 3, b"[3]"), Ended(seq, Status.COMPLETED, 5, 1, b"{}", history=b"[4]")])
    assert [each.key for each in (await cluster.state.content(seq)).journal] == ["@", "/do/3/a#0"]
    assert await histories(cluster, seq) == (b"[0]", b"[1]", b"[2]", b"[3]", b"[4]")


async def test_of_entries_that_were_compacted_the_last_few_histories_are_kept(cluster, new_event):
    (seq,) = await cluster.append(new_event())
    many = 3 * limits.MAX_HISTORIES
    for start in range(0, many, 100):
        await cluster.state.write([entry(seq, index, b"[%d]" % index) for index in range(start, start + 99)])
        await cluster.state.write([entry(seq, start + 99, b"[%d]" % (start + 99), compacts=True)])
    kept = await histories(cluster, seq)
    assert kept == tuple(b"[%d]" % index for index in range(many - 1 - limits.MAX_HISTORIES, many))


async def test_history_is_told_once_with_an_entry_and_nothing_after_the_end(cluster, new_event):
    (seq,) = await cluster.append(new_event())
    await cluster.state.write([entry(seq, 0, b"[0]")])
    await cluster.state.write([entry(seq, 0, b"[1]"), Parked(seq, 9, 1, history=b"[2]")])
    await cluster.state.write([Parked(seq, 9, 1, history=b"[3]"), Ended(seq, Status.COMPLETED, 5, 1, b"{}")])
    await cluster.state.write([Parked(seq, 9, 1, history=b"[4]"), entry(seq, 1, b"[5]")])
    assert await histories(cluster, seq) == (b"[0]", b"[2]")


async def test_history_goes_with_its_execution(cluster, new_event):
    (seq,) = await cluster.append(new_event())
    await cluster.state.write([Parked(seq, 9, 1, history=b"[2]"), Ended(seq, Status.COMPLETED, 5, 1, b"{}")])
    assert await cluster.state.expire(ended_before_ms=2**45) == 1
    assert await cluster.state.content(seq) is None


async def test_of_very_much_history_the_first_and_the_last_is_read(cluster, new_event):
    await cluster.restart(StorageLimits(history_bytes=20))
    (seq,) = await cluster.append(new_event())
    await cluster.state.write([entry(seq, index, b"[%d]" % index) for index in range(6)])
    assert len(await histories(cluster, seq)) == 6
    await cluster.state.write([entry(seq, index, b"[%d]" % index) for index in range(6, 9)])
    await cluster.state.write([Ended(seq, Status.FAULTED, 5, 1, history=b"[9]")])
    assert await histories(cluster, seq) == (b"[0]", b"[1]", b"[2]", b"", b"[7]", b"[8]", b"[9]")
