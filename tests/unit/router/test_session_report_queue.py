"""What a runner reports is stored in order, and together with what is read meanwhile."""

from __future__ import annotations

import pytest

from flowhook.attach.messages import (
    Checkpoint,
    CheckpointBatch,
    Completed,
    Outcome,
    OutcomeBatch,
    SubscriptionBatch,
    SubscriptionUpdate,
)
from flowhook.errors import InvalidError
from flowhook.model import JournalEntry
from router import session
from router.session import ReportQueue, StoreReports, Subscribe

ENTRY = JournalEntry("/do/0/a#0", b"1")


def checkpoint(lease, index, consumed=0):
    return Checkpoint(lease, index, ENTRY, consumed=consumed)


def outcome(lease, *checkpoints):
    return Outcome(lease, Completed(b"{}"), checkpoints=checkpoints)


def queued(*reports):
    queue = ReportQueue()
    for report in reports:
        add(queue, report)
    return queue


def add(queue, report, size=100):
    batch = {Checkpoint: CheckpointBatch, Outcome: OutcomeBatch, SubscriptionUpdate: SubscriptionBatch}[type(report)]
    queue.add(batch((report,)), size)


def test_an_outcome_is_stored_with_the_checkpoints_of_its_execution():
    queue = queued(checkpoint(b"a", 0), checkpoint(b"b", 0), checkpoint(b"a", 1), outcome(b"a"), outcome(b"c"))
    ended = outcome(b"a", checkpoint(b"a", 0), checkpoint(b"a", 1))
    assert queue.take() == [StoreReports((checkpoint(b"b", 0),), (ended, outcome(b"c")), ())]


def test_checkpoints_in_an_outcome_come_after_those_that_were_sent_before_it():
    queue = queued(checkpoint(b"a", 0), outcome(b"a", checkpoint(b"a", 1)))
    assert queue.take() == [StoreReports((), (outcome(b"a", checkpoint(b"a", 0), checkpoint(b"a", 1)),), ())]


def test_an_outcome_is_stored_after_a_checkpoint_that_consumes_what_may_not_be_its():
    first = checkpoint(b"a", 0, consumed=7)
    assert queued(first, outcome(b"a")).take() == [StoreReports((first,), (), (outcome(b"a"),))]


def test_subscriptions_replace_earlier_ones_between_the_checkpoints_before_and_after_them():
    update = SubscriptionUpdate(b"a", 1, ())
    effects = queued(checkpoint(b"a", 0), update, checkpoint(b"a", 1)).take()
    before, after = StoreReports((checkpoint(b"a", 0),), (), ()), StoreReports((checkpoint(b"a", 1),), (), ())
    assert effects == [before, Subscribe(update), after]


def test_subscriptions_alone_store_nothing():
    update = SubscriptionUpdate(b"a", 1, ())
    assert queued(update).take() == [Subscribe(update)]


def test_one_batch_takes_no_more_than_its_share_of_storage(monkeypatch):
    monkeypatch.setattr(session, "MAX_STORE_BYTES", 150)
    queue = queued(*[checkpoint(b"a", index) for index in range(3)])
    batches = []
    while queue:
        [store] = queue.take()
        batches.append([each.index for each in store.checkpoints])
        queue.stored()
    assert batches == [[0, 1], [2]]


def test_it_is_full_until_what_was_taken_is_stored(monkeypatch):
    monkeypatch.setattr(session, "MAX_UNSTORED_BYTES", 150)
    queue = queued(checkpoint(b"a", 0))
    assert not queue.full
    add(queue, checkpoint(b"a", 1))
    assert queue.full
    queue.take()
    assert (queue.full, bool(queue)) == (True, False)
    add(queue, checkpoint(b"a", 2))
    queue.stored()
    assert (queue.full, bool(queue)) == (False, True)


def test_a_violation_leaves_what_was_added_before(monkeypatch):
    queue = queued(checkpoint(b"a", 0))
    with pytest.raises(InvalidError):
        add(queue, checkpoint(b"a", -1))
    assert queue.take() == [StoreReports((checkpoint(b"a", 0),), (), ())]
