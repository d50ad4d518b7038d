"""What runners report, and what no runner of ours ever says."""

from __future__ import annotations

import pytest

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.lifecycle import MAX_DATA_BYTES, LifecycleEvent
from flowhook.model import Correlation, EventFilter, FailedResponse, JournalEntry, Subscription, WorkflowError
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert
from router.dispatch.runner_port import AttemptParked, ReportedCheckpoint
from router.services import attach_codec


def parked(*subscriptions, **fields):
    return attach_codec.decode_outcome(
        pb.Outcome(lease=b"l", parked=pb.Parked(subscriptions=subscriptions, **fields))
    ).result


def events(*filters, key="k"):
    return pb.Subscription(key=key, events=pb.EventFilters(filters=filters))


def test_what_an_execution_waits_for_is_what_its_runner_says():
    correlation = pb.Correlation(path=".data.order", expected=b"7")
    filters = [
        pb.EventFilter(callback=True, type="approval", correlations=[correlation]),
        pb.EventFilter(attributes={"subject": "x", "source": "/a"}),
    ]
    ended = pb.Subscription(key="run", execution_id="evt_1")
    assert parked(events(*filters), ended, wake_time=convert.timestamp(1234)) == AttemptParked(
        1234,
        (
            Subscription(
                "k",
                (
                    EventFilter(True, "approval", (), (Correlation(".data.order", b"7"),)),
                    EventFilter(False, "", (("source", "/a"), ("subject", "x"))),
                ),
            ),
            Subscription("run", (), "evt_1"),
        ),
    )
    assert parked() == AttemptParked(None)


@pytest.mark.parametrize(
    "subscriptions",
    [
        [events(pb.EventFilter(), key="")],
        [events(pb.EventFilter(), key="k" * (attach_codec.MAX_KEY_BYTES + 1))],
        [pb.Subscription(key="k")],
        [events()],
        [events(*[pb.EventFilter()] * (limits.MAX_EVENT_FILTERS + 1))],
        [pb.Subscription(key="k", execution_id="")],
        [pb.Subscription(key="k", execution_id="e" * 65)],
        [events(pb.EventFilter())] * (limits.MAX_SUBSCRIPTIONS + 1),
        [events(pb.EventFilter(correlations=[pb.Correlation(path="1 +", expected=b"1")]))],
        [events(pb.EventFilter(correlations=[pb.Correlation(path=".a", expected=b"{")]))],
        [events(pb.EventFilter(correlations=[pb.Correlation(path=".a", expected=b"\xff")]))],
        [events(pb.EventFilter(correlations=[pb.Correlation(path=".a", expected=b"[" * 5000 + b"]" * 5000)]))],
    ],
)
def test_nonsense_is_a_violation(subscriptions):
    with pytest.raises(InvalidError) as caught:
        parked(*subscriptions)
    assert caught.value.reason == "ATTACH_PROTOCOL_VIOLATION"


def test_the_index_of_a_checkpoint_counts_from_0():
    with pytest.raises(InvalidError):
        attach_codec.decode_checkpoint(pb.Checkpoint(index=-1))


def test_what_happened_is_what_the_runner_says_with_an_entry_or_without():
    message = pb.LifecycleEvent(type="t", key="1", time=convert.timestamp(1234), data=b"{}")
    happened = (LifecycleEvent("t", "1", 1234, b"{}"),)
    bare = attach_codec.decode_checkpoint(pb.Checkpoint(lease=b"l", index=2, events=[message], number=3))
    assert bare == ReportedCheckpoint(b"l", 2, None, events=happened, number=3)
    entry = pb.JournalEntry(key="k", output=b"1")
    whole = attach_codec.decode_checkpoint(pb.Checkpoint(lease=b"l", entry=entry, events=[message]))
    assert whole == ReportedCheckpoint(b"l", 0, JournalEntry("k", b"1"), events=happened)
    completed = pb.Completed(output=b"1")
    assert attach_codec.decode_outcome(pb.Outcome(lease=b"l", completed=completed, events=[message])).events == happened


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
def test_what_happened_has_a_short_key_and_an_object(fields):
    event = pb.LifecycleEvent(**{"type": "t", "key": "1", "data": b"{}", **fields})
    with pytest.raises(InvalidError) as caught:
        attach_codec.decode_checkpoint(pb.Checkpoint(events=[event]))
    assert caught.value.reason == "ATTACH_PROTOCOL_VIOLATION"


def test_more_than_fits_is_the_executions_own_fault():
    value = pb.Correlation(path=".data", expected=b'"%s"' % (b"x" * limits.MIB))
    assert "has more than 1048576 bytes" in parked(events(pb.EventFilter(correlations=[value]))).detail


def test_of_an_error_is_kept_what_it_may_have():
    text = 9000 * "x"
    answer = FailedResponse(500, text, text, 9000)
    told = convert.error_to_proto(WorkflowError(text, 500, text, text, text, answer))
    kept = attach_codec.decode_outcome(pb.Outcome(lease=b"l", faulted=told)).result
    text = text[: limits.MAX_ERROR_DETAIL_BYTES]
    body = text[: limits.MAX_ERROR_BODY_BYTES]
    assert kept == WorkflowError(text, 500, text, text, text, FailedResponse(500, text, body, 9000))
