"""How long a journal is, read or written, and what compacting does about it."""

from __future__ import annotations

import pytest
from support.cases import cases

from flowhook import limits
from flowhook.model import SNAPSHOT_KEY, JournalEntry
from runner.interpreter.errors import TaskFault
from runner.interpreter.journal import COMPACT_BYTES, COMPACT_ENTRIES, Journal


def entries(count, size=1):
    return [JournalEntry(f"/do/0/a#{number}", b"1" * size) for number in range(count)]


def written(some):
    journal = Journal()
    for entry in some:
        journal.write(entry)
    return journal


def is_full(journal):
    try:
        journal.check("/do/0/a")
    except TaskFault:
        return True
    return False


@cases("make", [Journal, written])
@cases(
    ("count", "size", "long", "full"),
    [
        (COMPACT_ENTRIES - 1, 1, False, False),
        (COMPACT_ENTRIES, 1, True, False),
        (1, COMPACT_BYTES - 10, False, False),
        (1, COMPACT_BYTES - 9, True, False),
        (limits.MAX_JOURNAL_ENTRIES - 1, 1, True, False),
        (limits.MAX_JOURNAL_ENTRIES, 1, True, True),
        (8, limits.MAX_JOURNAL_BYTES // 8, True, True),
    ],
)
def test_what_earlier_attempts_wrote_counts_as_much_as_what_this_one_does(make, count, size, long, full):
    journal = make(entries(count, size))
    assert (journal.needs_compaction, is_full(journal)) == (long, full)


@pytest.mark.parametrize("size", [1, COMPACT_BYTES])
def test_a_snapshot_takes_the_place_of_all_that_was_written_before_it(size):
    journal = written(entries(COMPACT_ENTRIES, size))
    journal.postpone_compaction()
    journal.compact(b"{}")
    last = journal.writes[-1]
    assert (last.entry, last.compacts, last.binding) == (JournalEntry(SNAPSHOT_KEY, b"{}"), True, True)
    assert (journal.size, journal.needs_compaction, is_full(journal)) == (0, False, False)
    for entry in entries(COMPACT_ENTRIES):
        journal.write(entry)
    assert journal.needs_compaction


def test_what_stands_before_the_last_snapshot_is_passed_over():
    snapshots = [JournalEntry(SNAPSHOT_KEY, output) for output in (b"1", b"2")]
    journal = Journal([*entries(3), snapshots[0], *entries(3), snapshots[1], *entries(2)])
    assert (journal.snapshot, journal.size, journal.next) == (b"2", 2, entries(1)[0])
