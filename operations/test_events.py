"""Operations on test events: webhooks that the console sends to an edge as their sender would, signed by the router."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import orjson
from pydantic import Field

from flowhook.errors import InvalidError, NotFoundError, UnavailableError
from flowhook.model.flows import SignedRequest
from operations.curl_line import curl_line
from operations.edge_access import EdgeAccess
from operations.edge_request import MAX_RESPONSE, send_to_edge
from operations.encoding import header_texts, shown_fields
from operations.flows import FlowName

if TYPE_CHECKING:
    from flowhook.client import AsyncClient
    from operations.tools import Tools

MAX_TEXT: Final = 1024 * 1024

NEWEST: Final = 20  # newest executions among which that of a test event is searched if the response does not name it
FIRST_REFUSAL: Final = 400
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_ID: Final = re.compile(r"evt_[0-9a-z]{26}")


class TestEvent(FlowName):
    """Parameters of `send_test_event` and `sign_test_event`."""

    method: Annotated[str, Field(pattern=r"^[A-Z]{0,16}$")] = ""
    """HTTP method; empty: POST if the flow accepts it, else the first one that it accepts."""
    content_type: Annotated[str, Field(max_length=255)] = "application/json"
    """Media type of the body."""
    headers: Annotated[str, Field(max_length=64 * 1024)] = ""
    """Further headers, one `Name: value` a line; signatures and timestamps among them are replaced."""
    body: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """The body as text, sent in UTF-8, at most 1 MiB."""
    new_id: bool = False
    """Give it a new delivery ID, so that it is no repeated delivery."""


class SentTestEvent(TestEvent):
    """Parameters of `send_test_event`."""

    via: Literal["edge", "grpc"] = "edge"
    """To an edge, signed as the flow requires; or over gRPC, without a signature, for which the token needs the scope
    `ingest`, too."""


@dataclass(frozen=True, slots=True)
class SignedEvent:
    """A signed request, and a shell command that sends it. `validity`: seconds until it is refused; null: unlimited.

    `complete` is false if the sender sends the secret itself: `$SECRET` stands for it in the command.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body_size: int
    auth_kind: str
    secret_name: str
    validity: float | None
    complete: bool
    curl: str


@dataclass(frozen=True, slots=True)
class EdgeAnswer:
    """A response of an edge; `body` as text, at most 64 KiB; `cut`: there was more of it."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: str
    cut: bool


@dataclass(frozen=True, slots=True)
class SentEvent:
    """A test event that was sent.

    `execution_id` is that of the execution that it started, or that an earlier delivery of it had started
    (`duplicate`); empty if it was refused, or none was found. `request` and `response` are null for one over gRPC.
    """

    execution_id: str
    duplicate: bool
    request: SignedEvent | None
    response: EdgeAnswer | None


async def sign_test_event(client: AsyncClient, parameters: TestEvent, tools: Tools) -> SignedEvent:
    """Sign a test event without sending it, and write it as a shell command."""
    return _signed_view(await _sign(client, tools.edges, parameters, _read_headers(parameters.headers)))


async def send_test_event(client: AsyncClient, parameters: SentTestEvent, tools: Tools) -> SentEvent:
    """Send a test event to an edge, signed as the flow requires."""
    headers = _read_headers(parameters.headers)
    if parameters.via == "grpc":
        body = parameters.body.encode()
        execution_id = await client.ingest(parameters.flow_id, body, parameters.content_type, headers)
        return SentEvent(execution_id, duplicate=False, request=None, response=None)
    headers, trace = _with_trace(headers)
    request = await _sign(client, tools.edges, parameters, headers)
    if request.credential is not None:
        raise InvalidError(
            f"{request.auth_kind} sends the secret {request.secret_name} itself, which does not leave the router: "
            "use the curl line and put it there yourself, or send the event over gRPC",
            reason="CREDENTIAL_NOT_SHARED",
        )
    response = await send_to_edge(request, tools.edges)
    execution_id, duplicate = "", False
    if response.status < FIRST_REFUSAL:
        execution_id, duplicate = await _find_execution(client, parameters.flow_id, trace, response.body)
    text = response.body[:MAX_RESPONSE].decode("utf-8", "replace")
    answer = EdgeAnswer(response.status, response.reason, header_texts(response.headers), text, response.cut)
    return SentEvent(execution_id, duplicate, _signed_view(request), answer)


async def _sign(
    client: AsyncClient, edges: EdgeAccess, parameters: TestEvent, headers: list[tuple[str, str]]
) -> SignedRequest:
    base = await edges.url(client)
    if not base:
        raise UnavailableError(
            "no edge has reported a URL: is one running? FLOWHOOK_PUBLIC_URL of the admin process sets it",
            reason="EDGE_UNKNOWN",
        )
    body = parameters.body.encode()
    return await client.flows.sign_webhook(
        parameters.flow_id,
        base,
        body,
        method=parameters.method,
        content_type=parameters.content_type if body else "",
        headers=headers,
        new_delivery_id=parameters.new_id,
    )


def _read_headers(text: str) -> list[tuple[str, str]]:
    fields = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise InvalidError(f"line {number} of the headers: write `Name: value`", reason="HEADER_INVALID")
        fields.append((name.strip(), value.strip()))
    return fields


def _with_trace(headers: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], str]:
    """Return the headers with a `traceparent`, by which the execution is found, and the trace's ID.

    Source: https://www.w3.org/TR/trace-context/#traceparent-header
    """
    for name, value in headers:
        if name.lower() == "traceparent" and (match := _TRACEPARENT.fullmatch(value)):
            return headers, match[1]
    trace = secrets.token_hex(16)
    others = [(name, value) for name, value in headers if name.lower() != "traceparent"]
    return [*others, ("traceparent", f"00-{trace}-{secrets.token_hex(8)}-01")], trace


async def _find_execution(client: AsyncClient, flow_id: str, trace: str, body: bytes) -> tuple[str, bool]:
    """Return the ID of a test event's execution, and whether an earlier delivery had started it; empty: unknown."""
    try:
        answer: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    named = answer.get("id") if isinstance(answer, dict) else None
    if isinstance(named, str) and _ID.fullmatch(named):
        try:
            detail = await client.executions.get(named, max_body_bytes=0)
        except NotFoundError:
            pass
        else:
            if detail.execution.flow_id == flow_id:
                return named, trace not in detail.event.traceparent
    page = await client.executions.page(flow_id=flow_id, page_size=NEWEST)
    for execution in page.items:
        if trace in (await client.executions.get(execution.id, max_body_bytes=0)).event.traceparent:
            return execution.id, False
    return "", False


def _signed_view(request: SignedRequest) -> SignedEvent:
    shown = shown_fields(SignedEvent, request) | {"headers": header_texts(request.headers)}
    return SignedEvent(
        **shown, body_size=len(request.body), complete=request.credential is None, curl=curl_line(request)
    )
