"""What every log promises to its writers and readers."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.patience import PATIENCE

from router.storage.commit_log.interface import FencedError, LogRecord, LogTrimmedError

ROUNDS = int(os.environ.get("FLOWHOOK_LOG_ROUNDS", "20"))


def fill(log, count, size=1):
    for position in range(count):
        log.append(position, f"batch-{position + 1}", bytes([position % 256]) * size)


def positions(records):
    return [record.position for record in records]


def test_a_new_log_has_no_tail_and_no_records(log):
    assert log.tail() is None
    assert list(log.read(0)) == []


def test_positions_begin_at_1_and_have_no_gaps(log):
    assert [log.append(expected, f"batch-{expected}", b"data") for expected in range(3)] == [1, 2, 3]


def test_what_one_router_appends_another_one_reads(log, other):
    contents = [b"", b"\0\xff\r\n", b"x" * log.max_record_bytes]
    for expected, data in enumerate(contents):
        log.append(expected, f"nonce:{expected}", data)
    assert list(other.read(0)) == [LogRecord(at + 1, f"nonce:{at}", data) for at, data in enumerate(contents)]


def test_both_see_the_same_life_of_the_log(log, other):
    assert log.identity
    assert log.identity == other.identity


def test_the_tail_is_the_last_record(log, other):
    fill(log, 2)
    assert log.tail() == other.tail() == LogRecord(2, "batch-2", b"\1")


def test_reading_begins_after_a_position(log):
    fill(log, 5)
    assert positions(log.read(3)) == [4, 5]
    assert positions(log.read(5)) == []


def test_many_large_records_are_read_in_order_and_without_a_gap(log, other):
    fill(log, 60, size=200_000)
    records = list(other.read(0))
    assert positions(records) == list(range(1, 61))
    assert [record.data[0] for record in records] == list(range(60))


def test_a_writer_that_missed_a_record_is_fenced_and_appends_nothing(log, other):
    log.append(0, "first", b"1")
    with pytest.raises(FencedError):
        other.append(0, "late", b"2")
    assert positions(log.read(0)) == [1]


def test_a_fenced_writer_may_go_on_once_it_has_read_the_tail(log, other):
    log.append(0, "first", b"1")
    with pytest.raises(FencedError):
        other.append(0, "late", b"2")
    assert other.append(other.tail().position, "claim", b"2") == 2
    with pytest.raises(FencedError):
        log.append(1, "second", b"3")


def test_of_two_claimants_at_once_one_wins(log, other):
    with ThreadPoolExecutor(2) as pool:
        for expected in range(ROUNDS):
            start = threading.Barrier(2)
            claims = [pool.submit(claim, start, claimant, expected) for claimant in (log, other)]
            outcomes = [each.result(PATIENCE) for each in claims]
            winner = next(claimed for claimed in outcomes if claimed)
            assert outcomes.count(None) == 1
            assert log.tail().batch_id == winner


def claim(start, log, expected):
    """Return the identity of the record that was appended; None if the claim was refused."""
    batch_id = f"{threading.get_ident()}:{expected}"
    start.wait(PATIENCE)
    try:
        log.append(expected, batch_id, b"claim")
    except FencedError:
        return None
    return batch_id


def test_a_waiting_reader_sees_what_is_appended_meanwhile(log, other):
    fill(log, 1)
    with ThreadPoolExecutor(1) as pool:
        reading = other.read(1, wait_seconds=PATIENCE)
        found = pool.submit(next, reading)
        log.append(1, "batch-2", b"data")
        assert found.result(PATIENCE) == LogRecord(2, "batch-2", b"data")
        reading.close()


def test_a_waiting_reader_ends_when_nothing_is_appended(log):
    fill(log, 1)
    assert positions(log.read(0, wait_seconds=0.05)) == [1]


def test_purged_records_can_not_be_read(log, other):
    fill(log, 5)
    log.purge(3)
    with pytest.raises(LogTrimmedError) as caught:
        list(other.read(2))
    assert caught.value.first == 4
    assert positions(other.read(3)) == [4, 5]
    assert (other.status().first_position, other.status().last_position) == (4, 5)


def test_a_purge_of_what_was_purged_changes_nothing(log):
    fill(log, 3)
    log.purge(2)
    log.purge(1)
    assert positions(log.read(2)) == [3]


@pytest.mark.parametrize("through", [3, 1_000])
def test_a_log_goes_on_after_all_its_records_were_purged(log, other, through):
    fill(log, 3)
    log.purge(through)
    assert other.tail() == LogRecord(3, "", b"")
    assert positions(other.read(3)) == []
    with pytest.raises(LogTrimmedError) as caught:
        list(other.read(0))
    assert caught.value.first == 4
    assert (other.status().first_position, other.status().last_position) == (4, 3)
    assert other.append(3, "next", b"data") == 4
    assert positions(log.read(3)) == [4]
