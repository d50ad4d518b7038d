"""What waits to be sent to a runner: in an order that means something, and bounded."""

from __future__ import annotations

import pytest

from flowhook.attach.messages import (
    Assignment,
    AssignmentBatch,
    CheckpointAck,
    Drain,
    DurableCheckpoint,
    EventDelivery,
    EventDeliveryBatch,
    LifecycleFilter,
    Renewed,
    Revocation,
    Settlement,
)
from flowhook.model import JournalEntry
from router import session
from router.session import SendQueue


@pytest.fixture
def queue():
    return SendQueue()


def assignment(lease=b"t", size=1):
    return Assignment(lease, 1, 1, b"x" * size)


def delivery(lease=b"t", size=1):
    return EventDelivery(lease, 1, 7, JournalEntry("k", b"x" * size))


def test_messages_are_sent_in_the_order_that_a_runner_needs(queue):
    queue.drain(1.0)
    queue.renewed(5)
    queue.revoke([b"t"], "EXECUTION_CANCELLED")
    queue.assign([assignment()])
    queue.deliver(delivery())
    queue.acknowledge(b"t", 0)
    queue.settle([b"s"])
    queue.want({"a"})
    assert queue.take() == [
        LifecycleFilter(frozenset({"a"})),
        Settlement((b"s",)),
        CheckpointAck((DurableCheckpoint(b"t", 0, 0),)),
        EventDeliveryBatch((delivery(),)),
        AssignmentBatch((assignment(),)),
        Revocation((b"t",), "EXECUTION_CANCELLED"),
        Renewed(5),
        Drain(1.0),
    ]
    assert queue.take() == []


def test_settlements_and_acknowledgements_are_merged(queue):
    for number in range(3):
        queue.settle([b"%d" % number])
        queue.acknowledge(b"t", number)
    assert queue.take() == [Settlement((b"0", b"1", b"2")), CheckpointAck((DurableCheckpoint(b"t", 2, 0),))]


def test_checkpoints_are_acknowledged_up_to_the_last_of_both_kinds(queue):
    queue.acknowledge(b"t", -1, 1)
    queue.acknowledge(b"t", 3)
    queue.acknowledge(b"t", 2, 2)
    queue.acknowledge(b"u", -1, 1)
    assert queue.take() == [CheckpointAck((DurableCheckpoint(b"t", 3, 2), DurableCheckpoint(b"u", -1, 1)))]


def test_of_renewals_and_filters_only_the_last_one_is_sent(queue):
    for number in (1, 2):
        queue.renewed(number)
        queue.want({f"{number}"})
    assert queue.take() == [LifecycleFilter(frozenset({"2"})), Renewed(2)]
    queue.want(())
    assert queue.take() == [LifecycleFilter(frozenset())]


def test_leases_are_revoked_by_reason(queue):
    queue.revoke([b"a"], "LEASE_LOST")
    queue.revoke([b"b"], "EXECUTION_CANCELLED")
    queue.revoke([b"c"], "LEASE_LOST")
    assert queue.take() == [Revocation((b"a", b"c"), "LEASE_LOST"), Revocation((b"b",), "EXECUTION_CANCELLED")]


def test_assignments_are_split_into_messages_that_fit(queue, monkeypatch):
    monkeypatch.setattr(session, "MAX_BATCH_BYTES", 250)
    queue.assign([assignment(b"%d" % number, size) for number, size in enumerate([100, 100, 100, 900, 10])])
    sizes = [[len(item.event) for item in message.assignments] for message in queue.take()]
    assert sizes == [[100, 100], [100], [900], [10]]


def test_deliveries_are_split_into_messages_that_fit(queue, monkeypatch):
    monkeypatch.setattr(session, "MAX_BATCH_BYTES", 250)
    for _ in range(3):
        queue.deliver(delivery(size=100))
    assert [len(message.deliveries) for message in queue.take()] == [2, 1]


def test_it_is_full_until_what_was_taken_is_sent(queue, monkeypatch):
    monkeypatch.setattr(session, "MAX_UNSENT_BYTES", 10)
    queue.assign([assignment(size=9)])
    assert not queue.full
    queue.assign([assignment(size=1)])
    assert queue.full
    queue.take()
    assert queue.full
    queue.assign([assignment(size=9)])
    queue.sent()
    assert not queue.full
    queue.take()
    queue.sent()
    queue.deliver(delivery(size=10))
    assert queue.full


def test_journals_count_too(queue, monkeypatch):
    monkeypatch.setattr(session, "MAX_UNSENT_BYTES", 100)
    queue.assign([Assignment(b"t", 2, 1, b"", (JournalEntry("k", b"x" * 100),))])
    assert queue.full


def test_the_revocations_of_a_runner_that_reads_nothing_are_bounded(queue, monkeypatch):
    monkeypatch.setattr(session, "MAX_UNSENT_REVOCATIONS", 10)
    for _ in range(10):
        assert queue.revoke([b"stale"], "LEASE_LOST")
    assert not queue.revoke([b"stale"], "LEASE_LOST")
    assert queue.take() == []
