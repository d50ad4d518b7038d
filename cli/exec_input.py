"""Builds the input of `flowhook exec`: the event that starts the flow, its callbacks, and events to listen for."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import typer

from flowhook.errors import InvalidError

if TYPE_CHECKING:
    from flowhook.document import FlowDocument
    from flowhook.document.models.webhook import Callback, Webhook
    from flowhook.model import Event
    from runner.ipc import ProvidedEvent

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The request as given by the options; headers and query are in the order of the options."""

    body: bytes
    content_type: str
    headers: Sequence[tuple[str, str]]
    query: Sequence[tuple[str, str]]


def parse_request_options(
    body: str | None, content_type: str | None, headers: Sequence[str], query: Sequence[str]
) -> RequestOptions:
    """Parse the options of the request.

    Raises:
        typer.BadParameter: an option is malformed, or its file can't be read.
    """
    return RequestOptions(
        b"{}" if body is None and content_type is None else read_option_content("--input", body or ""),
        content_type or JSON,
        [_pair("--header", text, ":") for text in headers],
        [_pair("--query", text, "=") for text in query],
    )


def read_option_content(option: str, text: str) -> bytes:
    """Return the content of an option: text, `@FILE`, or `@-` for stdin.

    Raises:
        typer.BadParameter: the file can't be read.
    """
    if text == "@-":
        return sys.stdin.buffer.read()
    if not text.startswith("@"):
        return text.encode()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{option} {text}: {error.strerror}") from None


def build_start_event(document: FlowDocument, request: RequestOptions) -> Event:
    """Return the event that starts the flow: the request as an edge converts it or, without a webhook, the input alone.

    Raises:
        typer.BadParameter: the body does not match its type, or a flow without a webhook is given headers or a query.
    """
    webhook = document.webhook
    if webhook is None:
        if request.headers or request.query:
            option = "--header" if request.headers else "--query"
            raise typer.BadParameter(f"{option}: {document.id} has no `webhook`, so its only input is --input")
        event = _event(document.id, "", request.content_type, request.body)
        _check("--input", event, raw=False)
        return event
    event = _received(document.id, webhook, request)
    _check("--input", event, raw=webhook.parse == "raw")
    return event


def parse_callback(document: FlowDocument, text: str) -> ProvidedEvent:
    """Return the event of a callback, given as `NAME=@FILE` or `NAME=JSON`.

    Raises:
        typer.BadParameter: the flow has no such callback, or its body is not JSON.
    """
    from flowhook.events import cloud_events
    from runner.ipc import ProvidedEvent

    name, body = _pair("--callback", text, "=")
    callbacks: Mapping[str, Callback] = {} if document.webhook is None else document.webhook.callbacks
    if name not in callbacks:
        known = f"; there are {', '.join(callbacks)}" if callbacks else ", nor any other"
        raise typer.BadParameter(f"--callback: {document.id} has no callback {name}{known}")
    request = RequestOptions(read_option_content(f"--callback {name}", body), JSON, (), ())
    event = _received(document.id, callbacks[name], request, name)
    raw = callbacks[name].parse == "raw"
    _check(f"--callback {name}", event, raw=raw)
    return ProvidedEvent(cloud_events.from_callback(event, raw=raw), callback=True)


def parse_emitted_event(text: str) -> ProvidedEvent:
    """Return an emitted event: a CloudEvent in JSON, as `@FILE` or text; all attributes but `type` have defaults.

    Raises:
        typer.BadParameter: it is not a CloudEvent.
    """
    import orjson

    from flowhook.events import cloud_events, ids
    from flowhook.events.workflow_input import rfc3339
    from runner.ipc import ProvidedEvent

    try:
        written = orjson.loads(read_option_content("--event", text))
        if not isinstance(written, dict):
            raise typer.BadParameter("--event is not a CloudEvent: expected a JSON object with a `type`")
        identity = {"specversion": cloud_events.SPEC_VERSION, "id": ids.mint(0), "source": "/exec"}
        payload = orjson.dumps({**identity, "time": rfc3339(_now_ms()), **written})
        cloud_events.parse(payload)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"--event is not JSON: {error}") from None
    except InvalidError as error:
        raise typer.BadParameter(f"--event: {error.message}") from None
    return ProvidedEvent(payload, callback=False)


def _received(flow_id: str, webhook: Webhook | Callback, request: RequestOptions, callback: str = "") -> Event:
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


def _check(option: str, event: Event, *, raw: bool) -> None:
    """Refuse a body that an edge would refuse."""
    from flowhook import limits, payloads

    try:
        payloads.parse(event.content_type, event.body, event.headers, raw=raw, limit=limits.MAX_BODY_BYTES)
    except InvalidError as error:
        if payloads.is_json(event.content_type):
            raise typer.BadParameter(f"{option} is not JSON: {_where(event.body) or error.message}") from None
        raise typer.BadParameter(f"{option} is not {event.content_type}: {error.message}") from None


def _where(body: bytes) -> str:
    """Return the parser's error for a body that is not JSON, with line and column; empty: it is JSON."""
    import orjson

    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return str(error)
    return ""


def _pair(option: str, text: str, separator: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise typer.BadParameter(f"{option} takes NAME{separator}VALUE")
    return name.strip(), value.strip() if separator == ":" else value


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
