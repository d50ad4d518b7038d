"""Events for a flow that runs without a cluster: requests as an edge converts them, CloudEvents, and secrets."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import orjson
import typer

from flowhook.errors import InvalidError

if TYPE_CHECKING:
    from flowhook.document.loader import FlowDocument
    from flowhook.document.models.webhook import Callback, Webhook
    from flowhook.model import Event
    from runner.ipc import ProvidedEvent


class SentRequest(NamedTuple):
    """A request to the webhook of a flow; headers and query are in order."""

    body: bytes
    content_type: str
    headers: Sequence[tuple[str, str]]
    query: Sequence[tuple[str, str]]


def secrets_of(names: Iterable[str], given: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return secrets by name; one that is not set is absent, and the task that needs it reports that."""
    found = dict(given)
    for name in names:
        variable = "FLOWHOOK_SECRET_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
        if name not in found and variable in os.environ:
            found[name] = os.environ[variable].encode()
    return found


def start_event(document: FlowDocument, request: SentRequest) -> Event:
    """Return the event that starts the flow: the request as an edge converts it; without a webhook, the input alone."""
    from flowhook.events.workflow_input import workflow_input
    from flowhook.payloads.field_types import with_types

    webhook = document.webhook
    if webhook is None:
        if request.headers or request.query:
            option = "--header" if request.headers else "--query"
            raise typer.BadParameter(f"{option}: {document.id} has no `webhook`, so its only input is --input")
        return _checked("--input", _event(document.id, "", request.content_type, request.body), raw=False)
    event = _checked("--input", _received(document.id, webhook, request), raw=webhook.parse == "raw")
    try:
        with_types(workflow_input(event, raw=webhook.parse == "raw"), webhook.fields, strict=True)
    except InvalidError as error:
        raise typer.BadParameter(f"--input: {error.message}") from None
    return event


def callback_event(option: str, document: FlowDocument, name: str, request: SentRequest) -> ProvidedEvent:
    """Return the event of a request to a callback of a flow; `option`: where it was given."""
    from flowhook.events import cloud_events
    from runner.ipc import ProvidedEvent

    callbacks: Mapping[str, Callback] = {} if document.webhook is None else document.webhook.callbacks
    if name not in callbacks:
        known = f"; there are {', '.join(callbacks)}" if callbacks else ", nor any other"
        raise typer.BadParameter(f"{option}: {document.id} has no callback {name}{known}")
    raw = callbacks[name].parse == "raw"
    event = _checked(option, _received(document.id, callbacks[name], request, name), raw=raw)
    return ProvidedEvent(cloud_events.from_callback(event, raw=raw), callback=True)


def emitted_event(option: str, written: Any) -> ProvidedEvent:
    """Return a CloudEvent as an emitted event; all attributes but `type` have defaults."""
    from flowhook.events import cloud_events, ids
    from flowhook.events.workflow_input import rfc3339
    from runner.ipc import ProvidedEvent

    if not isinstance(written, dict):
        raise typer.BadParameter(f"{option} is not a CloudEvent: expected a JSON object with a `type`")
    identity = {"specversion": cloud_events.SPEC_VERSION, "id": ids.mint(0), "source": "/exec"}
    payload = orjson.dumps({**identity, "time": rfc3339(_now_ms()), **written})
    try:
        cloud_events.parse(payload)
    except InvalidError as error:
        raise typer.BadParameter(f"{option}: {error.message}") from None
    return ProvidedEvent(payload, callback=False)


def _received(flow_id: str, webhook: Webhook | Callback, request: SentRequest, callback: str = "") -> Event:
    """Return a request as an edge passes it on: without credentials."""
    from edge.webhook.compiled_endpoints import CompiledEndpoint
    from flowhook.signatures.request_values import strip_query

    endpoint = CompiledEndpoint(flow_id, webhook, {}, callback=callback)
    given = [(name.lower(), value) for name, value in request.headers]
    sent = [("content-type", request.content_type), ("content-length", str(len(request.body)))]
    headers = [pair for pair in sent if pair[0] not in dict(given)] + given
    path = "/".join(filter(None, ("/hook", flow_id, callback)))
    event = _event(flow_id, path, dict(headers)["content-type"], request.body)
    return event._replace(
        method="POST" if "POST" in webhook.methods else webhook.methods[0],
        query=strip_query(urlencode(request.query), endpoint.dropped_query),
        headers=tuple((name, value.encode()) for name, value in headers if name not in endpoint.dropped_headers),
        callback=callback,
    )


def _event(flow_id: str, path: str, content_type: str, body: bytes) -> Event:
    from flowhook.events import ids
    from flowhook.model import Event

    event_id = ids.mint(ids.slot_of(flow_id))
    return Event(event_id, flow_id, _now_ms(), None, "", "POST", path, "", content_type, (), body)


def _checked(option: str, event: Event, *, raw: bool) -> Event:
    from flowhook import limits
    from flowhook.payloads.content_type import is_json
    from flowhook.payloads.parsing import parse

    try:
        parse(event.content_type, event.body, event.headers, raw=raw, limit=limits.MAX_BODY_BYTES)
    except InvalidError as error:
        if not is_json(event.content_type):
            raise typer.BadParameter(f"{option} is not {event.content_type}: {error.message}") from None
        where = error.message
        try:
            orjson.loads(event.body)
        except orjson.JSONDecodeError as syntax:  # this parser says line and column
            where = str(syntax)
        raise typer.BadParameter(f"{option} is not JSON: {where}") from None
    return event


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
