"""The checks of the replicated log see each fault in it."""

import pytest

from chaos.replication import differences, log_problems
from router.storage.commit_log.interface import LogRecord
from router.storage.replicated.batch import BatchPart, BatchWriter, encode, record_hash

FIRST = BatchWriter(0, 1, b"a" * 16, 1)
SECOND = BatchWriter(0, 2, b"b" * 16, 1)


def log(*written):
    """Return the records of a log: each is written by an owner, as a transaction's number, part and parts."""
    records, previous = [], b""
    for position, (owner, number, part, parts) in enumerate(written, 1):
        batch = BatchPart(owner, number, 1, part, parts, previous, compressed=False, patchset=b"x")
        data = encode(batch)
        records.append(LogRecord(position, batch.batch_id, data))
        previous = record_hash(data)
    return records


def kinds(records):
    return {name for name, found in log_problems(records).items() if found}


def test_a_sound_log():
    records = log(
        (FIRST, 1, 0, 1), (FIRST, 2, 0, 2), (FIRST, 2, 1, 2), (FIRST, 3, 0, 2), (SECOND, 1, 0, 1), (SECOND, 2, 0, 1)
    )
    assert kinds(records) == set()
    assert kinds([]) == kinds(records[2:]) == set()


@pytest.mark.parametrize(
    "written",
    [
        [(FIRST, 1, 0, 1), (SECOND, 1, 0, 1), (FIRST, 2, 0, 1)],
        [(FIRST, 1, 0, 1), (BatchWriter(0, 1, b"c" * 16, 1), 2, 0, 1)],
        [(FIRST, 1, 0, 1), (FIRST, 3, 0, 1)],
        [(FIRST, 1, 0, 2), (FIRST, 2, 0, 1)],
        [(FIRST, 1, 0, 1), (SECOND, 2, 0, 1)],
    ],
    ids=["former owner", "two owners of one epoch", "number left out", "part left out", "owner begins late"],
)
def test_owners_write_one_after_another_and_each_in_its_order(written):
    assert kinds(log(*written)) == {"log_epochs_interleave"}


def test_a_log_with_a_gap_a_batch_twice_or_a_record_changed():
    records = log(*((FIRST, number, 0, 1) for number in range(1, 5)))
    assert kinds([records[0], *records[2:]]) == {"log_gap", "log_chain_broken", "log_epochs_interleave"}
    twice = [*records, LogRecord(5, records[-1].batch_id, records[-1].data)]
    assert kinds(twice) == {"log_batch_twice", "log_chain_broken", "log_epochs_interleave"}


def test_views_differ_by_rows_and_tables_but_not_by_what_is_local():
    rows = {"event": [(1, b"x")], "outcome": [], "rejection": [(1,)], "applied": [(1,)]}
    assert differences(rows, {**rows, "rejection": [], "applied": [(2,)]}) == []
    assert differences(rows, {**rows, "event": [(1, b"y")]})[0].startswith("event: 1 rows instead of 1")
    assert differences(rows, {"event": [], "outcome": []})[0].startswith("event: 0 rows instead of 1")
    assert differences({"event": []}, {"event": [], "extra": [(1,)]})[0].startswith("extra: 1 rows")
