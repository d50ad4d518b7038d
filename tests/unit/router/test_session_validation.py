"""What runners report, and what no runner of ours ever says."""

from __future__ import annotations

import pytest

from flowhook import limits
from flowhook.attach.limits import MAX_COMPONENTS, MAX_HELD_LEASES, MAX_KEY_BYTES
from flowhook.attach.messages import Checkpoint, Completed, Faulted, Hello, Outcome, Parked
from flowhook.errors import InvalidError
from flowhook.events.lifecycle import MAX_DATA_BYTES, LifecycleEvent
from flowhook.model import Correlation, EventFilter, FailedResponse, JournalEntry, Subscription, WorkflowError
from router.session import check_hello, checked_checkpoint, checked_outcome

ANY = EventFilter(False, "")
HELLO = Hello("r1", ("http",), "1", (b"l",), losses_explained=True)


def correlated(path, expected):
    return [Subscription("k", (EventFilter(False, "", (), (Correlation(path, expected),)),))]


@pytest.mark.parametrize(
    "subscriptions",
    [
        [Subscription("", (ANY,))],
        [Subscription("k" * (MAX_KEY_BYTES + 1), (ANY,))],
        [Subscription("k", (), "")],
        [Subscription("k", (), "e" * 65)],
        correlated("1 +", b"1"),
        correlated(".a", b"{"),
        correlated(".a", b"\xff"),
        correlated(".a", b"[" * 5000 + b"]" * 5000),
    ],
    ids=["no key", "key", "no ID", "ID", "path", "value", "UTF-8", "depth"],
)
def test_subscriptions_that_can_not_be_stored_or_matched_are_a_violation(subscriptions):
    with pytest.raises(InvalidError) as caught:
        checked_outcome(Outcome(b"l", Parked(None, tuple(subscriptions))))
    assert caught.value.reason == "ATTACH_PROTOCOL_VIOLATION"


def test_what_is_within_the_limits_stays_as_it_is():
    waits = (*correlated(".data.order", b"7"), Subscription("run", (), "evt_1"))
    for ending in (Parked(1234, waits), Parked(None), Completed(b"1", b"reply")):
        outcome = Outcome(b"l", ending, (event(),), b"[]", (Checkpoint(b"l", 0, JournalEntry("k", b"1")),))
        assert checked_outcome(outcome) == outcome
    checkpoint = Checkpoint(b"l", 2, None, events=(event(),), number=3, history=b"[]")
    assert checked_checkpoint(checkpoint) == checkpoint


def test_the_index_of_a_checkpoint_counts_from_0():
    with pytest.raises(InvalidError):
        checked_checkpoint(Checkpoint(b"l", -1, None))
    with pytest.raises(InvalidError):
        checked_outcome(Outcome(b"l", Completed(b"1"), checkpoints=(Checkpoint(b"l", -1, None),)))


def event(**fields):
    return LifecycleEvent(**{"type": "t", "key": "1", "time_ms": 1234, "data": b"{}", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"key": ""},
        {"key": "k" * 65},
        {"key": "ä"},
        {"data": b""},
        {"data": b"[]"},
        {"data": b"{"},
        {"data": b'{"a":"%b"}' % (b"x" * MAX_DATA_BYTES)},
    ],
    ids=str,
)
def test_a_lifecycle_event_has_a_short_key_and_an_object(fields):
    for check, report in (
        (checked_checkpoint, Checkpoint(b"l", 0, None, events=(event(**fields),))),
        (checked_outcome, Outcome(b"l", Completed(b"1"), (event(**fields),))),
    ):
        with pytest.raises(InvalidError) as caught:
            check(report)
        assert caught.value.reason == "ATTACH_PROTOCOL_VIOLATION"


def test_a_history_that_is_too_large_to_be_useful_is_left_out():
    large = b"x" * (limits.MAX_HISTORY_BYTES + 1)
    assert checked_checkpoint(Checkpoint(b"l", 0, None, history=large)).history == b""
    assert checked_outcome(Outcome(b"l", Completed(b"1"), history=large)) == Outcome(b"l", Completed(b"1"))


def test_the_texts_of_an_error_are_cut_to_their_limits():
    text = 9000 * "x"
    reported = WorkflowError(text, 500, text, text, text, FailedResponse(500, text, text, 9000))
    stored = checked_outcome(Outcome(b"l", Faulted(reported))).ending.error
    text = text[: limits.MAX_ERROR_DETAIL_BYTES]
    body = text[: limits.MAX_ERROR_BODY_BYTES]
    assert stored == WorkflowError(text, 500, text, text, text, FailedResponse(500, text, body, 9000))


@pytest.mark.parametrize(
    "fields",
    [
        {"runner_id": ""},
        {"runner_id": "r" * 64},
        {"components": ("c",) * (MAX_COMPONENTS + 1)},
        {"components": ("c" * 256,)},
        {"held_leases": (b"l",) * (MAX_HELD_LEASES + 1)},
        {"held_leases": (b"l" * 65,)},
    ],
    ids=["no ID", "ID", "components", "name", "leases", "lease"],
)
def test_a_hello_is_within_its_limits(fields):
    check_hello(HELLO)
    hello = {name: getattr(HELLO, name) for name in HELLO.__slots__}
    with pytest.raises(InvalidError) as caught:
        check_hello(Hello(**{**hello, **fields}))
    assert caught.value.reason == "ATTACH_PROTOCOL_VIOLATION"
