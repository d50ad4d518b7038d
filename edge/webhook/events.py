"""Builds the event of an accepted request, without the credentials that the request carried."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from edge.http.head import Head
from edge.webhook.compiled_endpoints import CompiledEndpoint, ParsedContent
from flowhook.events import ids
from flowhook.events.workflow_input import webhook_view
from flowhook.model import Event, Principal
from flowhook.signatures import Match, RequestView, Verifier, credentials_of, strip_query, without_credential_copies
from flowhook.v1 import envelope_pb2
from flowhook.wire.convert import event_to_proto


def build_event(endpoint: CompiledEndpoint, head: Head, request_view: RequestView, match: Match) -> Event:
    """Return a request as an event, without credentials."""
    now_ms = time.time_ns() // 1_000_000
    event_id = ids.mint(endpoint.slot, now_ms=now_ms)
    # Fields that `Connection` names are retained: only intermediaries remove them (RFC 9110, section 7.6.1). Removing
    # them here would let an attacker who replays a signed request hide the field by which it is recognised.
    dropped = endpoint.dropped_headers
    headers = tuple([field for field in head.headers if field[0] not in dropped])
    query = head.query
    if endpoint.dropped_query:
        query = strip_query(query, endpoint.dropped_query)
        headers = without_credential_copies(headers, credentials_of(head.query, endpoint.dropped_query))
    event = Event(
        event_id,
        endpoint.flow_id,
        now_ms,
        Principal(*match) if endpoint.asks else None,
        "",
        head.method,
        head.path,
        query,
        head.content_type,
        headers,
        request_view.body,
        head.traceparent,
    )
    return _mid_flow(event, endpoint) if endpoint.callback else event


def event_message(
    endpoint: CompiledEndpoint,
    request: RequestView,
    verified: tuple[Verifier, Match],
    event: Event,
    content: ParsedContent,
) -> tuple[envelope_pb2.Event, Mapping[str, Any] | None]:
    """Return an event for the router, with its keys and search attributes; and the value of `.` if it is needed."""
    view = webhook_view(event, content.body) if endpoint.needs_view else None
    key = endpoint.dedupe_key(verified, request, view, content)
    message = event_to_proto(event, encode_head=True)
    if key:
        message.dedupe_key = key
    # set even when it is empty, so that the router need not evaluate it
    message.order_key = endpoint.order_key_of(view, content)
    message.flow_revision = endpoint.flow_revision
    if endpoint.search is not None:
        for name, value in endpoint.attributes_of(view, content):
            message.attributes.add(name=name, value=value)
    return message, view


def _mid_flow(event: Event, endpoint: CompiledEndpoint) -> Event:
    """Return the event of a callback; for a one-time URL, move the token to the only field that is not stored."""
    if not endpoint.one_time:
        return event._replace(callback=endpoint.callback)
    path, _, token = event.path.rpartition("/")
    headers = without_credential_copies(event.headers, [token.encode()])  # `URLS` can't list every such field
    return event._replace(callback=endpoint.callback, callback_token=token, path=path, headers=headers)
