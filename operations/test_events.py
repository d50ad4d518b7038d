"""Operations on test events: webhooks that the console sends to an edge as their sender would, signed by the router."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import orjson
from pydantic import Field

from flowhook.errors import InvalidError, NotFoundError, UnavailableError
from flowhook.model import Event
from flowhook.model.flows import SignedRequest
from flowhook.model.rejections import TEST_TRACE
from flowhook.providers import PROVIDERS, sample_files
from flowhook.tracing.context import trace_id_of
from operations.edges import MAX_RESPONSE, EdgeAccess, curl_line, send_to_edge
from operations.encoding import header_texts, shown_fields
from operations.executions import read_with_beginning
from operations.flows import FlowName

if TYPE_CHECKING:
    from flowhook.client import AsyncClient
    from operations.tools import Tools

MAX_TEXT: Final = 1024 * 1024

NEWEST: Final = 20  # newest executions among which that of a test event is searched if the response does not name it
FIRST_REFUSAL: Final = 400
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
    """Return the headers with a `traceparent`, by which the execution is found, and the trace's ID."""
    for name, value in headers:
        if name.lower() == "traceparent" and (trace := trace_id_of(value)):
            return headers, trace
    # an edge tells test events by its beginning
    trace = TEST_TRACE.partition("-")[2] + secrets.token_hex(12)
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


# bytes of a stored body that a draft takes over; a form has at most 1 MiB, in which a byte may take three
MAX_BODY: Final = 512 * 1024

# headers of a connection, a client or a proxy rather than of an event
_NOT_OF_THE_EVENT: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "cache-control", "connection", "content-length", "content-type"}
    | {"cookie", "dnt", "expect", "forwarded", "from", "host", "keep-alive", "origin", "pragma", "priority", "referer"}
    | {"te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade", "user-agent", "via"}
)

Signing = Literal["signed", "credential", "impossible"]
# in the order in which the router prefers the kinds of a flow
_SIGNINGS: Final[tuple[Signing, ...]] = ("signed", "credential", "impossible")
# kinds, beside those with a public key, for which the router has nothing to sign with
_BY_THE_SENDER: Final = frozenset({"mtls", "microsoft-graph"})
_PROXY_PREFIXES: Final = ("x-forwarded-", "x-real-", "sec-", "cf-", "x-amzn-", "x-request-id")


class TestSource(FlowName):
    """Parameters of `prepare_test_event`: a sample, an execution, or neither."""

    sample: str = ""
    """Name of a sample of a provider, such as `github/push`."""
    execution: str = ""
    """ID of an execution of any flow, whose request is taken over."""


@dataclass(frozen=True, slots=True)
class EventSample:
    """A sample of a provider. `suits`: whether the flow's `auth` names this provider."""

    name: str
    provider: str
    title: str
    suits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDraft:
    """A test event before it is sent, and what to choose from.

    `headers`: one `Name: value` a line. `source`: URL of the page that documents the sample. `note`: what could not be
    taken over. `methods`: those that the flow accepts; none: it has no webhook. `auth`: its kinds of `auth`.
    `scheduled`: whether it has a schedule. `signing`: `signed`: the router makes the signature, or there is none to
    make; `credential`: the sender sends the secret itself, so that only the curl line and gRPC are left; `impossible`:
    only the sender can make it.
    """

    flow_id: str
    method: str = ""
    content_type: str = "application/json"
    headers: str = ""
    body: str = "{}"
    source: str = ""
    note: str = ""
    methods: tuple[str, ...]
    auth: tuple[str, ...]
    signing: Signing
    scheduled: bool
    samples: tuple[EventSample, ...]


async def prepare_test_event(client: AsyncClient, parameters: TestSource) -> TestDraft:
    """Prepare a test event of a flow, from a provider's sample or from a stored execution."""
    if parameters.sample and parameters.execution:
        raise InvalidError("give one of sample and execution", reason="PARAMETER_INVALID")
    flow = await client.flows.get(parameters.flow_id)
    definition = orjson.loads(flow.definition)
    methods, kinds = _webhook_of(definition)
    draft = TestDraft(
        flow_id=flow.id,
        methods=methods,
        auth=tuple(kinds),
        signing=signing_of(kinds),
        scheduled=bool(definition.get("schedule", {}).keys() & {"every", "cron", "after"}),
        samples=tuple(_samples(tuple(kinds))),
    )
    if parameters.sample:
        sample = sample_files.get_sample(parameters.sample)
        headers = "\n".join(f"{name}: {value}" for name, value in sample.headers)
        return replace(draft, **shown_fields(TestDraft, sample) | {"headers": headers})
    if parameters.execution:
        detail, beginning = await read_with_beginning(client, parameters.execution, MAX_BODY)
        event, (body, note) = detail.event, _text_of(beginning)
        method = event.method if event.method in methods else ""
        headers = header_lines(event)
        return replace(draft, method=method, content_type=event.content_type, headers=headers, body=body, note=note)
    return draft


def header_lines(event: Event) -> str:
    """Return the headers of a stored request that belong to its event, one `Name: value` a line."""
    return "\n".join(
        f"{name}: {value.decode()}"
        for name, value in event.headers
        if name not in _NOT_OF_THE_EVENT and not name.startswith(_PROXY_PREFIXES) and _is_text(value)
    )


def _is_text(value: bytes) -> bool:
    try:
        return value.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _text_of(body: bytes) -> tuple[str, str]:
    if len(body) > MAX_BODY:
        return "", "The body is larger than 512 KiB: use the curl line with a file, or flowhook send --data @FILE."
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return "", "The body is not UTF-8: use flowhook send --data @FILE."
    if "\x00" in text:
        return "", "The body has zero bytes, which a form can't send: use flowhook send --data @FILE."
    return text, "Lines of the body end in CRLF, and will end in LF." if "\r" in text else ""


def signing_of(kinds: Mapping[str, Any]) -> Signing:
    """Return who can make what a flow's `auth` wants: it is enough to satisfy one kind."""
    found = {_signing(kind, settings) for kind, settings in kinds.items()} or {"signed"}
    return next(each for each in _SIGNINGS if each in found)


def _signing(kind: str, settings: Any) -> Signing:
    """Return who makes what one kind of `auth` wants; see `flowhook.signatures.sign`."""
    provider = PROVIDERS.get(kind)
    if kind == "basic" or (provider is not None and provider.sends_secret):
        return "credential"
    if kind == "api_key":
        return "impossible" if "field" in settings else "credential"
    if kind in _BY_THE_SENDER or (provider is not None and provider.has_public_key) or "public_key" in settings:
        return "impossible"
    return "signed"


def _webhook_of(definition: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    webhook = definition.get("webhook")
    if not webhook:
        return (), {}
    auth = webhook.get("auth")
    kinds = auth if isinstance(auth, list) else [auth]
    named = {name: settings for kind in kinds if isinstance(kind, dict) for name, settings in kind.items()}
    return tuple(webhook.get("methods") or ("POST",)), named


def _samples(auth: tuple[str, ...]) -> list[EventSample]:
    views = [
        EventSample(sample.name, sample.provider, sample.title, sample.provider in auth)
        for sample in sample_files.all_samples()
    ]
    return sorted(views, key=lambda view: (not view.suits, view.name))
