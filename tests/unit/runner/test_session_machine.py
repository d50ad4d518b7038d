"""The runner's half of Attach, example by example."""

from __future__ import annotations

import pytest
from support.sessions import CAPACITY, LEASE, assignment, attached, happened, new_session, renew

from flowhook.attach import messages as m
from flowhook.errors import InvalidError
from flowhook.events.lifecycle import TaskEventType
from flowhook.model import EventFilter, JournalEntry, Subscription
from runner import session as s


def test_hello_comes_first_and_alone():
    session = new_session()
    assert session.take() == []
    session.connected(0)
    assert session.take() == [m.Hello("r", ("http",), "1", (), losses_explained=True)]
    assert session.take() == []


def test_credit_for_the_whole_capacity_follows_the_welcome():
    session = attached()
    assert session.take() == [m.Credit(CAPACITY)]
    assert session.take() == []


def test_no_more_work_is_requested_than_a_smaller_window_has_room_for():
    session = attached()
    session.take()
    leases = [bytes([number]) for number in range(CAPACITY)]
    session.receive(m.AssignmentBatch(tuple(map(assignment, leases))), 0)
    session.limit(2)

    def credit(*ended):
        for lease in ended:
            session.finish(lease, m.Completed(b"{}"))
        messages = session.take()
        session.receive(m.Settlement(ended), 0)
        return [message for message in messages + session.take() if isinstance(message, m.Credit)]

    assert credit(*leases[:-2]) == []
    assert credit(leases[-2]) == [m.Credit(1)]
    session.limit(CAPACITY)
    assert credit() == [m.Credit(CAPACITY - 2)]


@pytest.mark.parametrize("message", [m.AssignmentBatch((assignment(b"a"),)), m.Settlement((b"a",)), m.Drain(1.0)])
def test_anything_before_the_welcome_breaks_the_protocol(message):
    session = new_session()
    session.connected(0)
    session.take()
    with pytest.raises(InvalidError) as problem:
        session.receive(message, 0)
    assert problem.value.reason == "ATTACH_PROTOCOL_VIOLATION"


def test_a_second_welcome_breaks_the_protocol():
    with pytest.raises(InvalidError):
        attached().receive(m.Welcome(LEASE, frozenset()), 0)


def test_outcomes_of_calls_to_one_destination_are_one_report():
    session = attached()
    session.take()
    of = ("f", "https://a.example")
    failed = m.CallReport(*of, 0, 1, "down", 5)
    for report in (failed, failed, m.CallReport(*of, 1, 0), failed._replace(permitted=True), failed):
        assert session.report_call(report)
    assert session.take() == [m.CallReports((m.CallReport(*of, 1, 2, "down", 5, 2, True),))]
    session.report_call(m.CallReport(*of, 1, 0))
    assert session.take() == [m.CallReports((m.CallReport(*of, 1, 0),))]


def test_what_gathered_goes_out_together_checkpoints_before_outcomes_before_credit():
    session = attached()
    session.take()
    session.receive(m.AssignmentBatch((assignment(b"a"), assignment(b"b"))), 0)
    entry = JournalEntry("k", b"1")
    session.finish(b"a", m.Completed(b"1"))
    session.checkpoint(m.Checkpoint(b"b", 0, entry))
    session.finish(b"b", m.Released("x", charged=False))
    assert session.take() == [
        m.CheckpointBatch((m.Checkpoint(b"b", 0, entry),)),
        m.OutcomeBatch((m.Outcome(b"a", m.Completed(b"1")), m.Outcome(b"b", m.Released("x", charged=False)))),
        m.Credit(2),
    ]


def test_results_that_are_large_go_out_in_parts():
    session = attached()
    session.take()
    leases = [b"%d" % number for number in range(CAPACITY)]
    session.receive(m.AssignmentBatch(tuple(assignment(lease) for lease in leases)), 0)
    for lease in leases:
        session.finish(lease, m.Completed(b"x" * (3 * 1024 * 1024)))
    batches = [message.outcomes for message in session.take() if isinstance(message, m.OutcomeBatch)]
    assert [outcome.lease for batch in batches for outcome in batch] == leases
    assert [len(batch) for batch in batches] == [2, 2, 2, 2]


def test_no_credit_is_given_while_the_events_in_hand_are_too_large(monkeypatch):
    monkeypatch.setattr(s, "MAX_HELD_BYTES", 10)
    session = attached()
    session.take()
    session.receive(m.AssignmentBatch((assignment(b"a", b"x" * 11), assignment(b"b"))), 0)
    session.finish(b"b", m.Completed(b""))
    assert [type(message) for message in session.take()] == [m.OutcomeBatch]
    session.finish(b"a", m.Completed(b""))
    session.receive(m.Settlement((b"a", b"b")), 0)
    assert session.take()[-1] == m.Credit(2)


WAITS = (Subscription("/do/0/wait#0:event", (EventFilter(False, "paid"),)),)


def listening(session):
    return [each for message in session.take() if isinstance(message, m.SubscriptionBatch) for each in message.updates]


def delivery(generation):
    return m.EventDeliveryBatch((m.EventDelivery(b"a", generation, 7, JournalEntry("k", b"1")),))


def test_what_is_waited_for_is_said_when_it_changes_and_on_each_stream():
    session = attached()
    session.receive(m.AssignmentBatch((assignment(b"a"),)), 0)
    assert not session.subscribe(b"a", ())
    assert session.subscribe(b"a", WAITS)
    assert not session.subscribe(b"a", WAITS)
    assert listening(session) == [m.SubscriptionUpdate(b"a", 1, WAITS)]
    session.disconnected()
    attached(session, retained={b"a"})
    assert listening(session) == [m.SubscriptionUpdate(b"a", 2, WAITS)]
    assert session.subscribe(b"a", ())
    assert listening(session) == [m.SubscriptionUpdate(b"a", 3, ())]


def test_only_what_was_found_by_the_last_word_is_taken_in_and_once():
    session = attached()
    session.receive(m.AssignmentBatch((assignment(b"a"),)), 0)
    session.subscribe(b"a", WAITS)
    session.subscribe(b"a", ())
    assert session.receive(delivery(1), 0) == session.receive(delivery(2), 0) == []
    session.subscribe(b"a", WAITS)
    assert session.receive(delivery(3), 0) == [*delivery(3).deliveries]
    assert session.receive(delivery(3), 0) == []
    session.take()
    assert session.subscribe(b"a", WAITS)  # the next one of the same kind
    assert listening(session) == [m.SubscriptionUpdate(b"a", 4, WAITS)]


def test_the_checkpoint_that_takes_something_in_goes_before_the_next_word():
    session = attached()
    session.receive(m.AssignmentBatch((assignment(b"a"),)), 0)
    session.take()
    session.subscribe(b"a", WAITS)
    session.receive(delivery(1), 0)
    session.subscribe(b"a", ())
    session.checkpoint(m.Checkpoint(b"a", 0, JournalEntry("k", b"1"), consumed=7))
    assert [type(message) for message in session.take()] == [m.CheckpointBatch, m.SubscriptionBatch]


def test_a_process_that_abandons_its_work_does_not_call_the_loss_explained():
    session = attached()
    session.receive(m.AssignmentBatch((assignment(b"a"),)), 0)
    session.disconnected()
    assert session.expire(LEASE)
    session.connected(0)
    (hello,) = session.take()
    assert (hello.held_leases, hello.losses_explained) == ((b"a",), False)


def test_losses_are_explained_from_the_second_hello_on():
    session = new_session(losses_explained=False)
    session.connected(0)
    assert not session.take()[0].losses_explained
    session.receive(m.Welcome(LEASE, frozenset()), 0)
    session.disconnected()
    session.connected(0)
    assert session.take()[0].losses_explained


def test_everything_is_abandoned_when_the_router_stays_away_for_a_lease():
    session = attached(now=10.0)
    session.receive(m.AssignmentBatch((assignment(b"a"),)), 10.0)
    renew(session, 12.0)
    session.disconnected()
    assert session.expire(12.0 + LEASE - 0.1) == []
    assert session.expire(12.0 + LEASE) == [s.Abandon(b"a", "ROUTER_AWAY")]
    assert session.running == 0
    assert session.expire(12.0 + LEASE) == []


def test_what_was_abandoned_is_given_back_uncharged_if_it_is_still_this_runners():
    session = attached()
    session.receive(m.AssignmentBatch((assignment(b"a"), assignment(b"b"), assignment(b"c"))), 0)
    entry = JournalEntry("k", b"1")
    session.checkpoint(m.Checkpoint(b"a", 0, entry))
    session.finish(b"c", m.Parked(9))
    session.disconnected()
    session.expire(LEASE)
    attached(session, retained={b"a", b"c"}, now=LEASE)
    checkpoints, outcomes, *_ = session.take()
    assert checkpoints == m.CheckpointBatch((m.Checkpoint(b"a", 0, entry),))
    assert outcomes == m.OutcomeBatch(
        (m.Outcome(b"a", m.Released("ROUTER_AWAY", charged=False)), m.Outcome(b"c", m.Parked(9)))
    )
    session.receive(m.Settlement((b"a", b"c")), LEASE)
    assert session.idle


def test_a_renewal_that_was_not_answered_proves_nothing():
    session = attached()
    session.receive(m.AssignmentBatch((assignment(b"a"),)), 0)
    session.renew(5.0)
    assert m.Renewal(5_000_000) in session.take()
    assert not session.leases_certain(LEASE)
    session.disconnected()
    assert session.expire(LEASE)


def test_leases_are_certain_for_as_long_as_a_lease_after_hello_was_said():
    session = new_session()
    assert not session.leases_certain(0.0)
    session.connected(10.0)
    session.take()
    assert not session.leases_certain(10.0)
    # the welcome was read late
    assert s.LeasesConfirmed() in session.receive(m.Welcome(LEASE, frozenset()), 14.0)
    assert session.leases_certain(10.0 + LEASE - 0.1)
    assert not session.leases_certain(10.0 + LEASE)


def test_an_answer_proves_what_was_when_the_question_was_put_and_not_when_it_is_read():
    session = attached()
    session.receive(m.AssignmentBatch((assignment(b"a"),)), 0)
    session.checkpoint(m.Checkpoint(b"a", 0, JournalEntry("k", b"1")))
    session.renew(2.0)
    assert m.Renewal(2_000_000) in session.take()
    # this process stands still here, and finds in the socket what came before its lease was lost
    assert session.receive(m.CheckpointAck(((b"a", 0, 0),)), 60.0) == [m.DurableCheckpoint(b"a", 0, 0)]
    assert session.receive(m.Renewed(2_000_000), 60.0) == [s.LeasesConfirmed()]
    assert not session.leases_certain(60.0)
    session.renew(60.0)
    assert not session.leases_certain(60.0)
    session.take()
    assert session.receive(m.Renewed(60_000_000), 60.1) == [s.LeasesConfirmed()]
    assert session.leases_certain(60.1)


def test_nothing_is_certain_without_a_stream():
    session = attached()
    assert session.leases_certain(1.0)
    session.disconnected()
    assert not session.leases_certain(1.0)
    attached(session, now=2.0)
    assert session.leases_certain(2.0)


def test_an_answer_never_takes_back_what_an_earlier_one_proved():
    session = attached(now=10.0)
    session.receive(m.Renewed(1_000_000), 11.0)
    assert session.leases_certain(10.0 + LEASE - 0.1)


def test_a_moment_that_is_yet_to_come_is_taken_for_the_present():
    session = attached()
    session.receive(m.Renewed(1_000_000_000), 1.0)
    assert not session.leases_certain(1.0 + LEASE)


def test_after_a_stall_only_a_later_renewal_makes_leases_certain():
    session = attached()
    session.take()
    assert session.leases_certain(1.0)
    session.doubt_leases(3.0000005)
    assert not session.leases_certain(3.1)
    assert session.receive(m.Renewed(2_999_999), 3.2) == []  # it was on its way during the stall
    assert not session.leases_certain(3.2)
    session.renew(3.0000005)
    assert session.take() == [m.Renewal(3_000_000)]
    assert session.receive(m.Renewed(3_000_000), 3.3) == [s.LeasesConfirmed()]
    assert session.leases_certain(3.0 + LEASE - 0.1)
    assert not session.leases_certain(3.0 + LEASE)


def test_renewals_are_sent_while_attached_whether_anything_is_held_or_not():
    session = attached()
    session.take()
    session.renew(1)
    assert session.take() == [m.Renewal(1_000_000)]
    session.disconnected()
    session.connected(0)
    session.renew(2)
    assert [type(message) for message in session.take()] == [m.Hello]


def test_a_router_that_drains_gets_outcomes_but_gives_no_more_work():
    session = attached()
    session.take()
    session.receive(m.AssignmentBatch((assignment(b"a"),)), 0)
    assert session.receive(m.Drain(3.0), 0) == [s.Reattach(3.0)]
    session.finish(b"a", m.Completed(b"1"))
    assert session.take() == [m.OutcomeBatch((m.Outcome(b"a", m.Completed(b"1")),))]


def checkpoints(session):
    return [
        each for message in session.take() if isinstance(message, m.CheckpointBatch) for each in message.checkpoints
    ]


def test_what_happens_is_said_in_its_place_until_it_is_known_to_be_durable():
    session = attached()
    session.receive(m.AssignmentBatch((assignment(b"a"),)), 0)
    entry, one, two, three = JournalEntry("k", b"1"), happened(1), happened(2), happened(3)
    session.report_events(b"a", 0, (one,))
    session.checkpoint(m.Checkpoint(b"a", 0, entry, events=(two,)))
    session.report_events(b"a", 1, (three,))
    text = [
        m.Checkpoint(b"a", 0, None, events=(one,), number=1),
        m.Checkpoint(b"a", 0, entry, events=(two,)),
        m.Checkpoint(b"a", 1, None, events=(three,), number=2),
    ]
    assert checkpoints(session) == text
    session.receive(m.CheckpointAck(((b"a", -1, 1),)), 0)
    session.disconnected()
    attached(session, retained={b"a"})
    assert checkpoints(session) == text[1:]
    session.receive(m.CheckpointAck(((b"a", 0, 2),)), 0)
    session.disconnected()
    attached(session, retained={b"a"})
    assert checkpoints(session) == []
    session.finish(b"a", m.Completed(b"1"), (one,))
    assert m.OutcomeBatch((m.Outcome(b"a", m.Completed(b"1"), (one,)),)) in session.take()


def test_more_than_fits_is_not_reported_until_what_was_is_durable(monkeypatch):
    monkeypatch.setattr(s, "MAX_PENDING_EVENT_BYTES", 1000)
    session = attached()
    session.receive(m.AssignmentBatch((assignment(b"a"),)), 0)
    large = happened(1, b"x" * 600)
    assert session.report_events(b"a", 0, (large,))
    assert not session.report_events(b"a", 0, (large,))
    assert len(checkpoints(session)) == 1
    session.receive(m.CheckpointAck(((b"a", -1, 1),)), 0)
    assert session.report_events(b"a", 0, (large,))


def test_what_is_to_be_reported_is_forgotten_with_the_stream_that_said_it():
    session = attached()
    wanted = frozenset({TaskEventType.STARTED})
    assert session.receive(m.LifecycleFilter(wanted), 0) == [m.LifecycleFilter(wanted)]
    session.disconnected()
    session.connected(0)
    session.take()
    assert session.receive(m.Welcome(LEASE, frozenset()), 0) == [
        s.AttachAccepted(LEASE / 3),
        m.LifecycleFilter(frozenset()),
        s.LeasesConfirmed(),
    ]
    session.disconnected()
    session.connected(0)
    assert session.receive(m.Welcome(LEASE, frozenset()), 0) == [s.AttachAccepted(LEASE / 3), s.LeasesConfirmed()]


def test_leases_are_renewed_while_the_router_drains():
    session = attached()
    session.receive(m.Drain(10.0), 0)
    session.take()
    session.renew(1.0)
    assert session.take() == [m.Renewal(1_000_000)]
