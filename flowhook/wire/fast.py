"""Conversion where it is done for every request: straight from a request's parts to a message, without a model between.

Measured on one core: 4.5 µs for a request with five headers, against 6.5 µs by way of `model.Event`.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from flowhook.v1.envelope_pb2 import Event, Header, Principal


def accepted_event(  # noqa: PLR0917 - one field each, in their order; keywords cost where this is called
    event_id: str,
    flow_id: str,
    receive_time_ms: int,
    principal: Principal | None,
    dedupe_key: str,
    method: str,
    path: str,
    query: str,
    content_type: str,
    headers: Iterable[tuple[str, bytes]],
    body: bytes,
    traceparent: str,
) -> Event:
    """Return the message that `convert.event_to_proto` would make of an event with these parts."""
    seconds, rest = divmod(receive_time_ms, 1000)
    return Event(
        id=event_id,
        flow_id=flow_id,
        receive_time=Timestamp(seconds=seconds, nanos=rest * 1_000_000),
        principal=principal,
        dedupe_key=dedupe_key,
        method=method,
        path=path,
        query=query,
        content_type=content_type,
        headers=[Header(name=name, value=value) for name, value in headers],
        body=body,
        traceparent=traceparent,
    )


def principal(scheme: str, secret: str) -> Principal:
    """Return who was authenticated, as a message that may be used for any number of events."""
    return Principal(scheme=scheme, secret=secret)
