"""Heads of requests as edges send them to the router."""

from __future__ import annotations

from flowhook.v1.envelope_pb2 import Event, RequestHead

UNREADABLE = b"\xff\xff"
"""No serialized `RequestHead`."""


def edge_head(path: str, content_type: str = "application/json") -> bytes:
    """Return the `head` of an event that an edge accepted."""
    return RequestHead(method="POST", path=path, content_type=content_type).SerializeToString()


def with_head(event: Event) -> Event:
    """Return an event that an edge sent, with the fields of its head."""
    assert not event.method
    read = Event.FromString(event.SerializeToString())
    read.MergeFromString(RequestHead.FromString(event.head).SerializeToString())
    read.ClearField("head")
    return read
