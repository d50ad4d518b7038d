"""Reading a serialized event without the rest of its body."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.v1 import envelope_pb2
from flowhook.wire import convert
from flowhook.wire.event_body import EventPart, read_event, with_batch

KIB = 1024


class Payload:
    """Bytes that note how many of them are read."""

    def __init__(self, content):
        self._content = content
        self.size = len(content)
        self.bytes_read = 0

    def read(self, offset, size):
        found = self._content[offset : offset + size]
        self.bytes_read += len(found)
        return found


EVENTS = st.builds(
    envelope_pb2.Event,
    id=st.text(max_size=30),
    path=st.sampled_from(["", "/p", "/" + "p" * 70_000]),
    headers=st.lists(
        st.builds(envelope_pb2.Header, name=st.text(max_size=5), value=st.sampled_from([b"", b"v", b"v" * 65_536])),
        max_size=3,
    ),
    body=st.one_of(st.binary(max_size=300), st.sampled_from([b"b" * 127, b"b" * 128, b"b" * 200_000])),
    traceparent=st.text(max_size=60),
    depth=st.integers(0, 16),
    form=st.binary(max_size=20),
    flow_revision=st.integers(0, 2**63 - 1),
)


@given(EVENTS, st.sampled_from([0, 1, 127, 128, 129, 1_000_000]))
def test_an_event_is_read_as_it_is_but_for_the_rest_of_its_body(event, most):
    serialized = event.SerializeToString()
    part = read_event(Payload(serialized), max_body_bytes=most)
    assert part.body_size == len(event.body)
    assert serialized[part.body_offset : part.body_offset + part.body_size] == event.body
    event.body = event.body[:most]
    assert envelope_pb2.Event.FromString(part.event) == event


def test_little_more_is_read_than_is_returned():
    event = envelope_pb2.Event(id="evt_1", body=b"b" * (1 << 20), traceparent="t")
    payload = Payload(event.SerializeToString())
    assert read_event(payload, max_body_bytes=10).body_size == 1 << 20
    assert payload.bytes_read < 100 * KIB


def test_fixed_fields_that_are_not_known_are_passed_on():
    unknown = (
        bytes([40 << 3 & 0x7F | 0x80 | 1, 40 >> 4])
        + b"8 bytes."
        + bytes([40 << 3 & 0x7F | 0x80 | 5, 40 >> 4])
        + b"four"
    )
    body = envelope_pb2.Event(body=b"body").SerializeToString()
    assert read_event(Payload(unknown + body), max_body_bytes=2).event == unknown + body[:1] + b"\x02bo"


@pytest.mark.parametrize("body", [b"", b"body"])
def test_a_group_that_is_not_known_is_passed_on(body):
    event = envelope_pb2.Event.FromString(
        b"\xa3\x7d\x08\x01\xa4\x7d" + envelope_pb2.Event(body=body).SerializeToString()
    )
    part = read_event(Payload(event.SerializeToString()), max_body_bytes=2)
    assert part.body_size == len(body)
    event.body = body[:2]
    assert envelope_pb2.Event.FromString(part.event) == event


def test_an_event_without_a_body_is_read_whole():
    serialized = envelope_pb2.Event(id="evt_1", form=b"{}").SerializeToString()
    assert read_event(Payload(serialized), max_body_bytes=0) == EventPart(serialized, 0, 0)


@cases("broken", [b"\x80", b"\x80" * 20, b"\x0a\x05ab", b"\x0b", b"\x09a", b"\x0a\xff\xff"])
def test_what_is_no_event_is_refused(broken):
    with pytest.raises(ValueError, match="not a serialized event"):
        read_event(Payload(broken), max_body_bytes=0)


@given(EVENTS, st.lists(EVENTS, max_size=3))
def test_an_event_has_the_others_of_its_batch_as_they_were_stored(event, others):
    stored = [each.SerializeToString() for each in others]
    event.ClearField("batch")
    read = convert.event_from_bytes(with_batch(event.SerializeToString(), stored))
    assert read._replace(batch=()) == convert.event_from_proto(event)
    assert list(read.batch) == [convert.event_from_proto(each) for each in others]
    assert convert.event_from_proto(convert.event_to_proto(read)) == read
