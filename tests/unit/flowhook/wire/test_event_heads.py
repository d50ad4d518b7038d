"""The head of a request is one field of bytes where an edge sent it, and fields of the event where another did."""

from __future__ import annotations

import pytest

from flowhook.errors import InvalidError
from flowhook.model import Event, Principal
from flowhook.v1 import envelope_pb2
from flowhook.wire import convert

HEADERS = (("x-a", b"\xe9"), ("x-a", b"2"))
EVENT = Event(
    "evt_1", "f", 1_700_000_000_123, Principal("hmac", "k"), "d", "POST", "/hook/f", "a=1", "text/plain", HEADERS, b"b"
)._replace(traceparent="00-1-2-01", order_key="o")


@pytest.mark.parametrize("encode_head", [False, True])
def test_an_event_is_the_same_in_both_forms(encode_head):
    message = convert.event_to_proto(EVENT, encode_head=encode_head)
    assert convert.event_from_bytes(message.SerializeToString()) == EVENT
    assert (message.method, bool(message.head)) == (("", True) if encode_head else ("POST", False))


def test_fields_of_a_head_are_those_of_the_same_names_in_an_event():
    for field in envelope_pb2.RequestHead.DESCRIPTOR.fields:
        same = envelope_pb2.Event.DESCRIPTOR.fields_by_name[field.name]
        assert (same.number, same.type, same.message_type) == (field.number, field.type, field.message_type)


def test_fields_of_an_event_in_a_head_are_not_those_of_the_event():
    message = convert.event_to_proto(EVENT, encode_head=True)
    message.head = convert.event_to_proto(EVENT._replace(id="evt_2", flow_id="g", depth=3)).SerializeToString()
    assert convert.event_from_proto(message) == EVENT


@pytest.mark.parametrize("payload", [b"\xff", envelope_pb2.Event(id="evt_1", head=b"\xff").SerializeToString()])
def test_what_is_no_event_is_unreadable(payload):
    with pytest.raises(InvalidError) as refusal:
        convert.event_from_bytes(payload)
    assert refusal.value.reason == "EVENT_UNREADABLE"
