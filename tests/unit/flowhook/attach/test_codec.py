"""Every message of Attach is the same after it was encoded, serialized, parsed and decoded."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import get_args

import pytest
from support.cases import cases

from flowhook import limits
from flowhook.attach import codec
from flowhook.attach.messages import (
    Assignment,
    AssignmentBatch,
    CallReport,
    CallReports,
    Checkpoint,
    CheckpointAck,
    CheckpointBatch,
    Completed,
    Credit,
    DestinationState,
    DestinationUpdate,
    DestinationUpdates,
    Drain,
    DurableCheckpoint,
    EventDelivery,
    EventDeliveryBatch,
    Faulted,
    Hello,
    LifecycleFilter,
    Outcome,
    OutcomeBatch,
    Parked,
    Released,
    Renewal,
    Renewed,
    Revocation,
    RouterMessage,
    RunnerMessage,
    Settlement,
    SubscriptionBatch,
    SubscriptionUpdate,
    Welcome,
)
from flowhook.errors import InvalidError
from flowhook.events.lifecycle import LifecycleEvent, TaskEventType
from flowhook.model import (
    Correlation,
    EventFilter,
    FailedResponse,
    JournalEntry,
    RaiseOrigin,
    Reply,
    Subscription,
    WorkflowError,
)
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert

ERROR = WorkflowError(
    "about:blank", 503, "away", "/do/0/a", "late", FailedResponse(503, "u", "b", 1), RaiseOrigin("/do/0", "c")
)
ENTRY = JournalEntry("/do/0/a#0", b'{"n":1}')
FAILURE = JournalEntry("/do/1/b#0", None, ERROR)
REPLY = convert.reply_to_bytes(Reply(201, (("x", b"1"),), b"{}"))
EVENTS = (LifecycleEvent(TaskEventType.STARTED, "1", 1234, b"{}"), LifecycleEvent(TaskEventType.FAULTED, "2", 5, b"{}"))
WAITS = (
    Subscription("k", (EventFilter(True, "approval", (("source", "/a"),), (Correlation(".data", b"7"),)),)),
    Subscription("e", (EventFilter(False, ""), EventFilter(False, "paid"))),
    Subscription("run", (), "evt_1"),
)
WHOLE = Checkpoint(b"l", 3, ENTRY, True, REPLY, 7, EVENTS, 0, b"[]")
EMPTY_REPLY = convert.reply_to_bytes(Reply(0, (), b""))

REQUESTS = [
    Hello("r1", ("http", "reply"), "1.0", (b"a", b"b"), losses_explained=True),
    Hello("r1", (), "", (), losses_explained=False),
    Credit(7),
    CallReports((CallReport("f", "https://a.example", 2, 3, "no answer", 5, 4, True), CallReport("g", "o", 0, 1))),
    Renewal(2**40),
    Renewal(0),
    CheckpointBatch((WHOLE, Checkpoint(b"m", 0, FAILURE), Checkpoint(b"l", 4, None, events=EVENTS, number=2))),
    CheckpointBatch((Checkpoint(b"", 0, JournalEntry("", b""), reply=EMPTY_REPLY),)),
    SubscriptionBatch((SubscriptionUpdate(b"l", 2, WAITS), SubscriptionUpdate(b"m", 1, ()))),
    OutcomeBatch(
        (
            Outcome(b"a", Completed(b"{}", REPLY), EVENTS, b"[1]", (WHOLE, Checkpoint(b"l", 4, ENTRY))),
            Outcome(b"b", Completed(b"")),
            Outcome(b"c", Faulted(ERROR)),
            Outcome(b"d", Released("DRAINING", charged=False)),
            Outcome(b"e", Released("", charged=True)),
            Outcome(b"f", Parked(1234567890123, WAITS)),
            Outcome(b"g", Parked(None)),
            Outcome(b"j", Parked(None, destinations=("https://a.example", "http://b.example:8080"))),
            Outcome(b"h", Parked(0)),
            Outcome(b"i", Completed(b"1", EMPTY_REPLY)),
        )
    ),
]
RESPONSES = [
    Welcome(6.5, frozenset({b"a", b"b"})),
    Welcome(6.0, frozenset()),
    AssignmentBatch((Assignment(b"l", 2, 3, b"event", (ENTRY, FAILURE), 5, "evt_0"), Assignment(b"m", 1, 1, b""))),
    AssignmentBatch((Assignment(b"l", 1, 1, b"", destination="https://a.example", destination_failure="down"),)),
    AssignmentBatch((Assignment(b"l", 1, 1, b"", resumed=True),)),
    DestinationUpdates(tuple(DestinationUpdate("f", "https://a.example", state) for state in DestinationState)),
    EventDeliveryBatch((EventDelivery(b"l", 1, 7, ENTRY), EventDelivery(b"m", 2, 0, FAILURE))),
    CheckpointAck((DurableCheckpoint(b"l", -1, 2), DurableCheckpoint(b"m", 0, 0))),
    Settlement((b"a", b"b")),
    Revocation((b"a",), "LEASE_LOST"),
    Renewed(2**40),
    LifecycleFilter(frozenset({"a", "b"})),
    LifecycleFilter(frozenset()),
    Drain(2.5),
]


def requests(messages):
    for request in codec.encode_requests(messages):
        yield codec.Request.FromString(request.SerializeToString())


def responses(messages):
    for response in codec.encode_responses(messages):
        yield codec.Response.FromString(response.SerializeToString())


@cases("message", REQUESTS, ids=lambda message: type(message).__name__)
def test_what_a_runner_sends_is_what_the_router_gets(message):
    [request] = requests([message])
    assert list(codec.decode_request(request)) == [(message, request.ByteSize())]


@cases("message", RESPONSES, ids=lambda message: type(message).__name__)
def test_what_a_router_sends_is_what_the_runner_gets(message):
    [response] = responses([message])
    assert list(codec.decode_response(response)) == [message]


def parts_of(value):
    yield value
    if is_dataclass(value):
        value = [getattr(value, each.name) for each in fields(value)]
    if isinstance(value, tuple | list):
        for each in value:
            yield from parts_of(each)


@cases("kind", [*get_args(RunnerMessage), *get_args(RouterMessage), Checkpoint, Outcome, Assignment])
def test_each_field_of_each_message_is_set_somewhere_above(kind):
    """Or nobody would notice that the codec leaves one out."""
    found = [part for message in (*REQUESTS, *RESPONSES) for part in parts_of(message) if type(part) is kind]
    names = [each.name for each in fields(kind)] if is_dataclass(kind) else kind._fields
    assert {name for name in names if not any(getattr(each, name) for each in found)} == set()


def test_the_origin_of_an_error_is_sent_though_it_does_not_count_in_comparisons():
    [request] = requests([OutcomeBatch((Outcome(b"c", Faulted(ERROR)),))])
    [(batch, _)] = codec.decode_request(request)
    assert batch.outcomes[0].ending.error.raising == ERROR.raising


def test_several_messages_are_one_bundle_in_order():
    sent = REQUESTS[2:]
    [request] = requests(sent)
    assert [message for message, _ in codec.decode_request(request)] == sent
    assert all(size > 0 for _, size in codec.decode_request(request))
    sent = RESPONSES[2:]
    [response] = responses(sent)
    assert list(codec.decode_response(response)) == sent


def test_a_bundle_is_no_larger_than_a_message_may_be(monkeypatch):
    large = CheckpointBatch((Checkpoint(b"l", 0, JournalEntry("k", b"x" * 500)),))
    monkeypatch.setattr("flowhook.attach.codec.MAX_BUNDLE_BYTES", 1000)
    assert len(list(requests([large, Credit(1)]))) == 1
    assert len(list(requests([large, large, Credit(1)]))) == 3
    assignments = AssignmentBatch((Assignment(b"l", 1, 1, b"x" * 500),))
    monkeypatch.setattr("flowhook.attach.codec.MAX_BUNDLE_BYTES", 1000)
    assert len(list(responses([assignments, Drain(1)]))) == 1
    assert len(list(responses([assignments, assignments, Drain(1)]))) == 3


def test_messages_of_a_kind_that_a_newer_version_has_are_marked_or_left_out():
    assert [message for message, _ in codec.decode_request(codec.Request())] == [None]
    assert list(codec.decode_response(codec.Response())) == []


@pytest.mark.parametrize(
    "part", [pb.AttachRequest(hello=pb.Hello(runner_id="r")), pb.AttachRequest(bundle=pb.RequestBundle())]
)
def test_a_bundle_holds_neither_a_hello_nor_a_bundle(part):
    with pytest.raises(InvalidError) as caught:
        list(codec.decode_request(pb.AttachRequest(bundle=pb.RequestBundle(requests=[part]))))
    assert caught.value.reason == "ATTACH_PROTOCOL_VIOLATION"


# --- subscriptions ----------------------------------------------------------------------------------------------------
def events(*filters):
    return pb.Subscription(key="k", events=pb.EventFilters(filters=filters))


def decoded(*subscriptions):
    outcome = pb.Outcome(lease=b"l", parked=pb.Parked(subscriptions=subscriptions))
    request = pb.AttachRequest(outcomes=pb.OutcomeBatch(outcomes=[outcome]))
    [(batch, _)] = codec.decode_request(request)
    return batch.outcomes[0].ending


@pytest.mark.parametrize(
    "subscriptions",
    [
        [pb.Subscription(key="k")],
        [events()],
        [events(*[pb.EventFilter()] * (limits.MAX_EVENT_FILTERS + 1))],
        [events(pb.EventFilter())] * (limits.MAX_SUBSCRIPTIONS + 1),
    ],
    ids=["neither", "no filters", "filters", "subscriptions"],
)
def test_no_more_subscriptions_are_converted_than_an_execution_may_have(subscriptions):
    with pytest.raises(InvalidError) as caught:
        decoded(*subscriptions)
    assert caught.value.reason == "ATTACH_PROTOCOL_VIOLATION"


LARGE = events(pb.EventFilter(correlations=[pb.Correlation(path=".data", expected=b'"%s"' % (b"x" * limits.MIB))]))


def test_an_execution_that_parks_with_too_much_is_faulted():
    assert "has more than 1048576 bytes" in decoded(LARGE).error.detail


def test_a_running_execution_with_too_much_waits_for_nothing():
    request = pb.AttachRequest(
        subscriptions=pb.SubscriptionBatch(
            updates=[pb.SubscriptionUpdate(lease=b"l", generation=2, subscriptions=[LARGE])]
        )
    )
    [(batch, _)] = codec.decode_request(request)
    assert batch == SubscriptionBatch((SubscriptionUpdate(b"l", 2, ()),))


# --- exits ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (Faulted(ERROR), Faulted(ERROR)),
        (Released("RUNNER_DIED", charged=True), Released("RUNNER_DIED", charged=True, to_back=True)),
    ],
)
def test_what_a_process_evaluated_when_it_ended_is_faulted_or_goes_behind_the_others(sent, received):
    message = codec.exit_outcome_to_proto(Outcome(b"l", sent))
    assert codec.exit_outcome_from_proto(message) == Outcome(b"l", received)


@pytest.mark.parametrize("ending", [Completed(b"{}"), Parked(None)])
def test_what_a_process_evaluated_when_it_ended_has_not_ended_well(ending):
    with pytest.raises(InvalidError):
        codec.exit_outcome_from_proto(codec.exit_outcome_to_proto(Outcome(b"l", ending)))
