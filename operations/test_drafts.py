"""Prepares test events: from a provider's sample, or from the stored request of an execution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from flowhook.errors import InvalidError
from flowhook.model import Event
from flowhook.providers import PROVIDERS, sample_files
from operations.executions import read_with_beginning
from operations.flows import FlowName

if TYPE_CHECKING:
    from flowhook.client import AsyncClient

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


@dataclass(frozen=True, slots=True)
class TestDraft:
    """A test event before it is sent, and what to choose from.

    `headers`: one `Name: value` a line. `source`: URL of the page that documents the sample. `note`: what could not be
    taken over. `methods`: those that the flow accepts; none: it has no webhook. `auth`: its kinds of `auth`.
    `scheduled`: whether it has a schedule. `signing`: `signed`: the router makes the signature, or there is none to
    make; `credential`: the sender sends the secret itself, so that only the curl line and gRPC are left; `impossible`:
    only the sender can make it.
    """

    flow_id: str
    method: str
    content_type: str
    headers: str
    body: str
    source: str
    note: str
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
    auth = tuple(kinds)
    method, content_type, headers, body, source, note = "", "application/json", "", "{}", "", ""
    if parameters.sample:
        sample = sample_files.get_sample(parameters.sample)
        content_type, body, source = sample.content_type, sample.body, sample.source
        headers = "\n".join(f"{name}: {value}" for name, value in sample.headers)
    elif parameters.execution:
        detail, beginning = await read_with_beginning(client, parameters.execution, MAX_BODY)
        event = detail.event
        body, note = _text_of(beginning)
        method = event.method if event.method in methods else ""
        content_type, headers = event.content_type, header_lines(event)
    return TestDraft(
        flow.id,
        method,
        content_type,
        headers,
        body,
        source,
        note,
        methods,
        auth,
        signing_of(kinds),
        bool(definition.get("schedule", {}).keys() & {"every", "cron", "after"}),
        tuple(_samples(auth)),
    )


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
    """Return a body as text, and what is to be said about it."""
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
    """Return the methods that a flow accepts, and its kinds of `auth` with their settings."""
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
