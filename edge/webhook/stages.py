"""The stages that a request passes, cheapest first, whether it arrives or is verified again.

Method and address, credentials in headers, signature, parsing. What a request that arrives passes besides, because its
body is still with its sender, is in `pipeline`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import attrs
import orjson

from edge.http import responses
from edge.http.head import Head
from edge.http.peer import Peer
from edge.http.responses import Response
from edge.webhook.acceptance import AcceptanceChecks, CompiledAcceptance
from edge.webhook.compiled_endpoints import EMPTY, CompiledEndpoint, ParsedContent
from edge.webhook.handshakes import FetchUrl
from edge.webhook.key_cache import KeyCache
from edge.webhook.offloaded import parse_large_body
from flowhook import limits
from flowhook.document.models.webhook import BODYLESS_METHODS
from flowhook.events import ids
from flowhook.events.keys import EventKeys
from flowhook.http.forwarded import Address, TrustedProxies
from flowhook.model import Event, events
from flowhook.model.own_urls import host_name
from flowhook.model.rejections import RequestOutcome
from flowhook.payloads.content_type import is_json
from flowhook.payloads.parsing import is_opaque, parse, to_structured
from flowhook.sandbox import INLINE_BYTES
from flowhook.sandbox.offload import Offload
from flowhook.sharing import Principal
from flowhook.sharing.limit import address_principal
from flowhook.signatures.request_values import credentials_of, strip_query, without_credential_copies
from flowhook.signatures.types import JsonBody, Match, Outcome, RequestView, Verifier, first_match, json_of
from flowhook.v1 import envelope_pb2
from flowhook.wire.convert import event_to_proto

_NO_KEYS: Final = EventKeys()


class RequestViews:
    """Makes views of requests as their senders sent them, from what the edge received."""

    def __init__(self, proxies: TrustedProxies | None, public_url: str) -> None:
        """Let `proxies` report the sender and the URL; the part of URLs before the path is `public_url`, if given."""
        self._proxies = proxies or None
        self._public_url = public_url.rstrip("/")

    def principal(self, address: Address) -> Principal:
        """Return the owner of a sender's address. A proxy that is trusted stands for many senders."""
        trusted = self._proxies is not None and self._proxies.trusts(address)
        return address_principal(address)._replace(essential=trusted)

    def host(self, head: Head, peer: Peer) -> str:
        """Return the host that the sender sent a request to, maybe with a port."""
        if self._proxies is None:
            return head.host
        return self._proxies.origin(peer.address, peer.protocol, head.headers)[2] or head.host

    def view(self, head: Head, peer: Peer, own_host: str = "") -> tuple[Address, RequestView]:
        """Return the sender's address, and the request as input for verification, without its body.

        `own_host` is the flow's own host: a request that was sent there was not sent to `public_url`.
        """
        host, address, scheme = head.host, peer.address, peer.protocol
        if self._proxies is not None:
            address, scheme, behind = self._proxies.origin(address, scheme, head.headers)
            host = behind or host
        base = self._public_url
        if not base:
            base = f"{scheme}://{host}"
        elif own_host and own_host == host_name(host):
            base = f"{base.partition('://')[0]}://{host}"
        url = f"{base}{head.target}"
        return address, RequestView(head.method, url, head.path, head.query, head.headers, b"", peer.client_names)


@attrs.define(eq=False, repr=False)
class Delivery:
    """A request on its way to an endpoint."""

    endpoint: CompiledEndpoint
    head: Head
    address: Address  # of the sender
    request: RequestView  # as far as it is known: stages add the body, its JSON value, and fetched keys
    # the verifier that passed, and its match; there is none, not even an empty one, until the sender is authenticated
    verified: tuple[Verifier, Match] = attrs.field(init=False)
    outcome: RequestOutcome | None = None  # what became of it, if operators have to know that it was not just accepted
    execution_id: str = ""  # of that outcome
    event_id: str = ""  # the same, of the event that was stored for it, or for the request that it repeats
    # what is left of the rate limits of the flow and of the sender, in requests; None: not known
    flow_remaining: int | None = None
    sender_remaining: int | None = None
    trace: Any = None  # of `edge.webhook.traced`, if the request is traced


def build_event(delivery: Delivery) -> Event:
    """Return the event of an authenticated request, without the fields and parameters that hold credentials."""
    endpoint, head = delivery.endpoint, delivery.head
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
        events.Principal(*delivery.verified[1]) if endpoint.asks else None,
        "",
        head.method,
        head.path,
        query,
        head.content_type,
        headers,
        delivery.request.body,
        head.traceparent,
    )
    return _mid_flow(event, endpoint) if endpoint.callback else event


def event_message(
    delivery: Delivery, event: Event, content: ParsedContent
) -> tuple[envelope_pb2.Event, Mapping[str, Any] | None]:
    """Return an event for the router, with its keys and search attributes; and the value of `.` if it is needed."""
    endpoint = delivery.endpoint
    view = endpoint.view(event, content.body) if endpoint.needs_view else None
    dedupe_key = endpoint.dedupe_key(delivery.verified, delivery.request, view, content)
    message = event_to_proto(event, encode_head=True)
    if dedupe_key:
        message.dedupe_key = dedupe_key
    keys = content.keys or (endpoint.keys.of_view(view) if endpoint.keys else _NO_KEYS)
    message.order_key = keys.order_key  # set even when it is empty, so that the router need not evaluate it
    message.flow_revision = endpoint.flow_revision
    for name, value in keys.attributes:
        message.attributes.add(name=name, value=value)
    if keys.shaping is not None:
        message.shaping.SetInParent()
        made = message.shaping
        made.rate, made.concurrency, made.priority, made.group = keys.shaping[:4]
    return message, view


def _mid_flow(event: Event, endpoint: CompiledEndpoint) -> Event:
    """Return the event of a callback; for a one-time URL, move the token to the only field that is not stored."""
    if not endpoint.one_time:
        return event._replace(callback=endpoint.callback)
    path, _, token = event.path.rpartition("/")
    headers = without_credential_copies(event.headers, [token.encode()])  # `URLS` can't list every such field
    return event._replace(callback=endpoint.callback, callback_token=token, path=path, headers=headers)


def answer_by_head(delivery: Delivery) -> Response | None:
    """Return the response to an unsigned handshake, a wrong method or a wrong address; None: the request goes on."""
    endpoint, method = delivery.endpoint, delivery.head.method
    admitted = endpoint.admits(delivery.address)
    if endpoint.handshakes is not None and admitted:
        answer = endpoint.handshakes.early(delivery.request)
        if answer is not None:
            delivery.outcome = None if answer.reason else RequestOutcome.HANDSHAKE
            return answer
    if method not in endpoint.methods:
        if method == "OPTIONS" and admitted and (answer := endpoint.options.answer(delivery.request)) is not None:
            delivery.outcome = RequestOutcome.HANDSHAKE if answer.status == HTTPStatus.OK else None
            return answer
        return responses.FLOW_FOUND if method == "HEAD" else endpoint.not_allowed
    return None if admitted else responses.ADDRESS_FORBIDDEN


@attrs.define(eq=False, repr=False)
class Stages:
    """The stages that wait: for keys, and for bodies that are parsed or hashed elsewhere."""

    _keys: KeyCache
    _offload: Offload  # parses large bodies
    _acceptance: AcceptanceChecks

    async def verify_head(self, delivery: Delivery, now: float) -> Outcome:
        """Verify a request without its body, if there are verifiers that can. `now` is Unix time in seconds."""
        endpoint = delivery.endpoint
        if endpoint.early_keyed:
            delivery.request = await self._keys.with_keys(delivery.request, endpoint.early_keyed)
        return first_match(endpoint.early, delivery.request, now)

    async def verify_body(self, delivery: Delivery, now: float) -> Outcome:
        """Verify a request by its body; a large one is parsed and hashed in a thread."""
        endpoint = delivery.endpoint
        if endpoint.reads_json:
            delivery.request = await _with_json(delivery.request, JsonBody(endpoint.max_unverified_json))
        if endpoint.late_keyed:
            delivery.request = await self._keys.with_keys(delivery.request, endpoint.late_keyed)
        if len(delivery.request.body) <= INLINE_BYTES:
            return first_match(endpoint.late, delivery.request, now)
        return await asyncio.to_thread(first_match, endpoint.late, delivery.request, now)

    async def read_event(self, delivery: Delivery) -> tuple[Event, ParsedContent, Response | FetchUrl | None]:
        """Return a verified request as an event, its parsed body, and the answer if it is a handshake instead.

        Raises:
            InvalidError: the body does not match its Content-Type, or a field its type (`BODY_INVALID`), it is too
                large once decompressed (`BODY_TOO_LARGE`), or parsing exceeds its resource limits (`TOO_COSTLY`).
            ExhaustedError: too many large bodies of the flow are queued for parsing (`OVERLOADED`).
        """
        endpoint, head, request = delivery.endpoint, delivery.head, delivery.request
        event = build_event(delivery)
        if endpoint.needs_json_body and (request.json is None or len(request.body) > endpoint.max_unverified_json):
            request = await _with_json(request, JsonBody(endpoint.max_parsed, limits.MAX_VALUES))
            delivery.request = request
        content = parse_inline(endpoint, head, request)
        if content is None:
            content = await self._parse_apart(delivery, event)
            endpoint.check_fields(event, None)  # those of the query: the others were checked there
        else:
            endpoint.check_fields(event, content.body)
        if endpoint.handshakes is None:
            return event, content, None
        shaken = content.body if content.body is not None or not request.body else json_of(request)
        return event, content, endpoint.handshakes.late(delivery.verified[1], request, shaken)

    async def accept(
        self, delivery: Delivery, acceptance: CompiledAcceptance, event: Event, content: ParsedContent
    ) -> None:
        """Decide whether its flow wants a verified request; Refused: it does not. For other errors see `read_event`."""
        flow_id = delivery.endpoint.flow_id
        if content.keys is None:  # what was parsed is here
            await self._acceptance.check(flow_id, acceptance, delivery.endpoint.view(event, content.body))
            return
        view, body = orjson.dumps(delivery.endpoint.view(event, None)), delivery.request.body
        await self._acceptance.check_unparsed(flow_id, acceptance, _kind(delivery), view, body)

    async def _parse_apart(self, delivery: Delivery, event: Event) -> ParsedContent:
        endpoint = delivery.endpoint
        selected, dedupe, *keys = await self._offload.run(
            endpoint.flow_id,
            parse_large_body,
            _kind(delivery),
            endpoint.wanted,
            orjson.dumps(endpoint.view(event, None)),
            delivery.request.body,
        )
        return ParsedContent(orjson.loads(selected), EventKeys.unpack(keys), dedupe.decode())


def _kind(delivery: Delivery) -> bytes:
    """Return what a body has to be parsed by, as functions of `offloaded` expect it."""
    head = delivery.head
    headers = [
        (name, value.decode("latin-1"))
        for name, value in head.headers
        if name == "content-encoding" or name.startswith("ce-")
    ]
    return orjson.dumps([head.content_type, headers, delivery.endpoint.max_parsed, delivery.endpoint.fields])


def parse_inline(endpoint: CompiledEndpoint, head: Head, request: RequestView) -> ParsedContent | None:
    """Parse a small body; return None for one that would delay other requests."""
    body = request.body
    if endpoint.raw or not (body or head.method not in BODYLESS_METHODS):
        return EMPTY
    if head.compressed or not (len(body) <= INLINE_BYTES or is_opaque(head.content_type)):
        return None
    if request.json is not None and is_json(head.content_type):
        value = request.json.of(body)  # verification has parsed it already
        if value is not None:
            return ParsedContent(to_structured(head.content_type, head.headers, value))
    return ParsedContent(parse(head.content_type, body, head.headers, limit=endpoint.max_parsed).body)


async def _with_json(request: RequestView, body: JsonBody) -> RequestView:
    """Return a request whose body is parsed as JSON only once; a large one is parsed in a thread."""
    if len(request.body) > INLINE_BYTES:
        await asyncio.to_thread(body.of, request.body)
    return request._replace(json=body)
