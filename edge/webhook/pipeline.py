"""The webhook pipeline: the checks that a request passes before it is accepted, cheapest first.

Flow, method, address, credentials in headers, size, signature, rate (the router checks it along with storage), parsing,
storage. A refusal reveals no more than the sender may know.

Source: docs/http.md is the contract; RFC 9110 for the statuses.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import attrs
from tornado.iostream import StreamClosedError

from edge.http import responses
from edge.http.head import Head
from edge.http.peer import Peer
from edge.http.receive_budget import Overloaded
from edge.http.request import BodyStream, BodyTooLargeError, IncomingRequest
from edge.http.responses import Response
from edge.metrics import EdgeMetrics
from edge.router.body_uploads import BodyUploads, SignatureRejectedError, UploadedBody
from edge.router.flow_cache import FlowCache
from edge.router.ingest import IngestBatcher, IngestUnavailableError
from edge.router.rejections import MAX_BODY_BYTES, RejectionReporter
from edge.router.replies import PREFIX as REPLIES
from edge.router.replies import REFUSED, SyncReplies
from edge.webhook.acceptance import DECIDED, FILTERED, Refused
from edge.webhook.compiled_endpoints import HOOKS, CompiledEndpoint, ParsedContent
from edge.webhook.document_fetcher import DocumentFetcher, FetchError
from edge.webhook.handshakes import DONE, FetchUrl
from edge.webhook.log_limiter import RateLimitedLogger
from edge.webhook.stages import Delivery, RequestViews, Stages, answer_by_head, build_event, event_message
from flowhook import limits
from flowhook.errors import ExhaustedError, FlowhookError, InvalidError, NotFoundError
from flowhook.http.forwarded import Address
from flowhook.model import Event
from flowhook.model.rejections import TEST_TRACE, RequestOutcome
from flowhook.sharing.limit import network_of
from flowhook.signatures.types import Match, Outcome, SignatureError, first_match, most_specific
from flowhook.tracing.context import trace_id_of
from flowhook.v1.failure_pb2 import DISPOSITION_RETRYABLE, Failure
from flowhook.wire.status import THROTTLED, failure_to_proto

# Upper bound of the ratio of an event's metadata to the head it is made from: an event contains Content-Type and
# traceparent twice, the second time in UTF-8, which takes two bytes for each byte that is not ASCII.
MAX_GROWTH: Final = 3

# Syntax of the token of a one-time URL; only the router can tell whether a token is valid.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.~-]{1,128}")

HOOK_ROUTE: Final = "/hook/{flow}"  # of URLs of flows' own, too
REPLY_ROUTE: Final = "/replies/{token}"

_BY_REASON: Final = {  # of the router
    "FLOW_NOT_FOUND": responses.FLOW_NOT_FOUND,
    "CALLBACK_NOT_FOUND": responses.CALLBACK_NOT_FOUND,
    "CALLBACK_GONE": responses.CALLBACK_GONE,
    "CALLBACK_AMBIGUOUS": responses.CALLBACK_AMBIGUOUS,
    "CALLBACK_TOO_LARGE": responses.CALLBACK_TOO_LARGE,
    "TOO_MANY_WAITERS": responses.TOO_MANY_HELD,
    "WAITERS_FULL": responses.TOO_MANY_HELD,
}


# by what ends a request that is not refused, and not accepted either
ANSWERS: Final[Mapping[type[Exception], Response]] = {
    BodyTooLargeError: responses.BODY_TOO_LARGE,
    Overloaded: responses.OVERLOADED,
    IngestUnavailableError: responses.ROUTER_UNAVAILABLE,
}


class HealthPaths:
    """Answers `healthz` (the edge runs) and `readyz` (it serves) below a path, for senders: one word."""

    def __init__(self, prefix: str, lack: Callable[[], str]) -> None:
        """Answer below `prefix`, which ends with `/`; empty: nothing. `lack` returns why the edge does not serve."""
        self._alive = prefix and f"{prefix}healthz"
        self._ready = prefix and f"{prefix}readyz"
        self._lack = lack

    def answer(self, head: Head) -> Response | None:
        if head.path not in (self._alive, self._ready) or head.method not in ("GET", "HEAD") or not head.path:
            return None
        is_alive = head.path == self._alive
        answer = responses.ALIVE if is_alive else responses.UNREADY if self._lack() else responses.READY
        return answer._replace(body=b"") if head.method == "HEAD" else answer


@attrs.define(eq=False, repr=False)
class WebhookHandler:
    """Handles webhooks, callbacks and replies; `callbacks` stores events of callbacks, which take the router longer."""

    _flow_cache: FlowCache
    _ingest: IngestBatcher
    _callbacks: IngestBatcher
    _replies: SyncReplies
    _logger: RateLimitedLogger = attrs.field(kw_only=True)
    _counts: EdgeMetrics = attrs.field(kw_only=True)
    _rejections: RejectionReporter = attrs.field(kw_only=True)
    _stages: Stages = attrs.field(kw_only=True)
    _fetcher: DocumentFetcher = attrs.field(kw_only=True)
    _uploads: BodyUploads = attrs.field(kw_only=True)
    _views: RequestViews = attrs.field(kw_only=True)
    _health: HealthPaths = attrs.field(kw_only=True)

    async def handle(self, request: IncomingRequest) -> Response:
        """Return the response; StreamClosedError: disconnected before the end of the request, or invalid framing."""
        head, peer = request.head, request.peer
        try:
            if head.path.startswith(REPLIES):
                request.route = REPLY_ROUTE
                address, _ = self._views.view(head, peer)
                return await self._replies.fetch(head, self._views.principal(address))
            if (health := self._health.answer(head)) is not None:
                return health
            endpoint = await self._endpoint(head, peer)
        except Refused as refusal:
            self._counts.unknown[refusal.response.reason] += 1
            return refusal.response
        request.route = HOOK_ROUTE
        address, seen = self._views.view(head, peer, endpoint.own_host)
        delivery = Delivery(endpoint, head, address, seen)
        error: FlowhookError | None = None
        try:
            if address != peer.address:
                request.charge_to(address)
            answer = await self._accept(delivery, request)
        except Refused as refusal:
            answer, error, seen = refusal.response, refusal.error, delivery.request
        except tuple(ANSWERS) as problem:
            answer = ANSWERS[type(problem)]
        if delivery.outcome is not None or answer.reason:
            delivery.request = seen
            self._record(delivery, peer, answer, error)
        return answer if endpoint.answer_fields is None else endpoint.answer_fields.added(answer, delivery)

    def _record(self, delivery: Delivery, peer: Peer, answer: Response, error: FlowhookError | None) -> None:
        """Count and report a request that was refused, or of which operators have to know something else."""
        endpoint, reason = delivery.endpoint, answer.reason
        if reason:
            self._counts.rejected(endpoint.flow_id, reason, filtered=reason == FILTERED)
        if delivery.outcome is RequestOutcome.HANDSHAKE:
            self._counts.shook_hands(endpoint.schemes, "answered")
        if delivery.outcome is not None or answer.status < HTTPStatus.INTERNAL_SERVER_ERROR or reason in DECIDED:
            self._rejections.record(delivery, peer, answer, error, time.time())

    async def _accept(self, delivery: Delivery, request: IncomingRequest) -> Response:
        answer = answer_by_head(delivery)
        if answer is not None:
            return answer
        streamed = await self._authenticated(delivery, request)
        if (endpoint := delivery.endpoint).asks:
            match = delivery.verified[1]
            is_previous = endpoint.previous_secrets and match in endpoint.previous_secrets
            self._counts.checks[match.scheme, "valid", "previous" if is_previous else "current"] += 1
        if streamed is not None:
            event = build_event(delivery)
            event = event._replace(body_blob=streamed.blob, parts=streamed.parts, form=streamed.form)
            return await self._store(delivery, request, event, ParsedContent(streamed.content))
        _check_rate(delivery)
        try:
            event, content, handshake = await self._stages.read_event(delivery)
            if endpoint.acceptance is not None and handshake is None:
                await self._stages.accept(delivery, endpoint.acceptance, event, content)
        except InvalidError as error:
            too_large = error.reason == "BODY_TOO_LARGE"
            raise Refused(responses.BODY_TOO_LARGE if too_large else responses.body_invalid(error.message)) from None
        except ExhaustedError:
            raise Overloaded from None
        if handshake is not None:
            answered = await self._visited(handshake) if isinstance(handshake, FetchUrl) else handshake
            delivery.outcome = None if answered.reason else RequestOutcome.HANDSHAKE
            if answered.reason:
                self._counts.shook_hands(endpoint.schemes, "refused")
            return answered
        return await self._store(delivery, request, event, content)

    async def _authenticated(self, delivery: Delivery, request: IncomingRequest) -> UploadedBody | None:
        """Receive and verify the body of a request; return the upload of a large body."""
        endpoint, head = delivery.endpoint, delivery.head
        early = await self._stages.verify_head(delivery, time.time()) if endpoint.early else None
        good = None if isinstance(early, SignatureError) else early
        if good is None and not endpoint.has_signature(head.headers):
            late = first_match(endpoint.late, delivery.request, time.time())
            if endpoint.stores_rejected_bodies and 0 < head.length <= min(MAX_BODY_BYTES, endpoint.max_body):
                with contextlib.suppress(Overloaded, StreamClosedError):  # it is refused and recorded all the same
                    delivery.request = delivery.request.with_body(await request.body(MAX_BODY_BYTES))
            raise self._unauthenticated(delivery, early, late)
        if 0 <= head.length <= limits.STREAMED_BODY_BYTES:
            body = await request.body(endpoint.max_body)
        else:
            received = await request.receive(
                endpoint.max_body_size(head.headers, verified=good is not None),
                endpoint.max_buffered_size(head, verified=good is not None),
            )
            if isinstance(received, BodyStream):
                return await self._stream(delivery, early, received)
            body = received
        if body:
            delivery.request = delivery.request.with_body(body)
        outcome = good or await self._stages.verify_body(delivery, time.time())
        if isinstance(outcome, SignatureError):
            raise self._unauthenticated(delivery, early, outcome)
        delivery.verified = outcome
        return None

    async def _stream(self, delivery: Delivery, early: Outcome | None, body: BodyStream) -> UploadedBody:
        """Store a body while it arrives; the conditions for accepting it are the same as for one in memory."""

        async def admit(content: Any) -> None:
            _check_rate(delivery)
            event = build_event(delivery)
            delivery.endpoint.check_fields(event, content)
            if (acceptance := delivery.endpoint.acceptance) is not None:
                await self._stages.accept(delivery, acceptance, event, ParsedContent(content))

        try:
            verified = None if isinstance(early, SignatureError) else early
            return await self._uploads.store(delivery, body, verified, admit=admit)
        except SignatureRejectedError as refusal:
            raise self._unauthenticated(delivery, early, *refusal.errors) from None
        except FlowhookError as error:
            if isinstance(error, InvalidError) and error.reason == "BODY_INVALID":
                raise Refused(responses.body_invalid(error.message)) from None
            if not isinstance(error, InvalidError | ExhaustedError | NotFoundError) and error.reason not in REFUSED:
                raise IngestUnavailableError from None
            raise Refused(self._rejected(delivery, failure_to_proto(error))) from None

    async def _visited(self, visit: FetchUrl) -> Response:
        try:
            if await self._fetcher.fetch(visit.url) is not None:
                return DONE
        except FetchError as error:
            self._logger.warning("a handshake can't be completed", detail=str(error))
        return responses.HANDSHAKE_UNAVAILABLE

    async def _endpoint(self, head: Head, peer: Peer) -> CompiledEndpoint:
        path, suffix = head.path, None
        try:
            if path.startswith(HOOKS):
                flow_id, slash, rest = path[len(HOOKS) :].partition("/")
                suffix = rest if slash else None
                endpoints = await self._flow_cache.find(flow_id)
            else:
                found = await self._flow_cache.find_url(self._views.host(head, peer), path)
                endpoints, suffix = found or (None, None)
        except FlowhookError:
            raise Refused(responses.ROUTER_UNAVAILABLE) from None
        if endpoints is None:
            raise Refused(responses.FLOW_NOT_FOUND)
        if suffix is None:
            return endpoints.own
        endpoint = endpoints.at_suffix(suffix)
        if endpoint is None:
            raise Refused(responses.FLOW_NOT_FOUND)
        if endpoint.one_time and _TOKEN.fullmatch(suffix.partition("/")[2]) is None:
            raise Refused(responses.CALLBACK_NOT_FOUND)
        return endpoint

    def _unauthenticated(self, delivery: Delivery, *outcomes: Outcome | None) -> Refused:
        error = most_specific(*outcomes)
        for scheme in delivery.endpoint.schemes.split(","):
            self._counts.checks[scheme, "invalid", ""] += 1
        self._logger.warning(
            "request unauthenticated",
            **delivery.endpoint.log_fields,
            scheme=delivery.endpoint.schemes,
            reason=error.reason,
            detail=error.detail,
            address=str(delivery.address),
            **({"trace_id": trace_id} if (trace_id := trace_id_of(delivery.head.traceparent)) else {}),
        )
        # a key that can't be fetched is not the sender's fault, so a retry may succeed
        missing = error.reason == "KEY_UNAVAILABLE"
        return Refused(responses.KEYS_UNAVAILABLE if missing else delivery.endpoint.unauthenticated, error)

    def _begin_storing(self, delivery: Delivery, event: Event) -> None:
        """Do what has to be done before an event is stored."""

    async def _store(
        self, delivery: Delivery, request: IncomingRequest, event: Event, content: ParsedContent
    ) -> Response:
        self._begin_storing(delivery, event)
        endpoint, seen = delivery.endpoint, delivery.request
        message, shown = event_message(delivery, event, content)
        if endpoint.flow is not None:
            try:
                noted = partial(_note, delivery, message.id)
                held = self._replies.hold(message, endpoint.flow, self._views.principal(delivery.address), noted)
                return await request.hold(held)
            except FlowhookError as error:
                return self._rejected(delivery, failure_to_proto(error))
        size = MAX_GROWTH * delivery.head.size + len(seen.body) + (message.ByteSize() if event.body_blob else 0)
        result = await (self._callbacks if endpoint.callback else self._ingest).submit(message, size)
        if result.HasField("accepted"):
            accepted = result.accepted
            if endpoint.answer_fields is not None and accepted.HasField("rate_remaining"):
                delivery.flow_remaining = accepted.rate_remaining
            if accepted.duplicate or endpoint.callback or delivery.head.traceparent.startswith(TEST_TRACE):
                _note(delivery, message.id, accepted.execution_id, accepted.receiver_execution_id)
            return endpoint.response.render(accepted.execution_id, shown)
        return self._rejected(delivery, result.rejected)

    def _rejected(self, delivery: Delivery, failure: Failure) -> Response:
        endpoint, reason = delivery.endpoint, failure.reason
        if reason == "FLOW_NOT_FOUND" or (reason == "CALLBACK_NOT_FOUND" and not endpoint.one_time):
            self._flow_cache.drop(endpoint.flow_id)
        if reason in _BY_REASON:
            return _BY_REASON[reason]
        if reason == "RATE_LIMITED":
            delivery.flow_remaining = 0
        if reason in THROTTLED:
            return responses.flow_rate_limited(reason, failure.retry_after_seconds or 1)
        if failure.disposition == DISPOSITION_RETRYABLE:
            return responses.service_unavailable(reason, failure.retry_after_seconds or 1)
        self._logger.warning("router refused an event", **endpoint.log_fields, reason=reason, detail=failure.message)
        return responses.NOT_STORED


def _note(delivery: Delivery, event_id: str, execution_id: str, receiver_id: str = "") -> None:
    """Note what became of an accepted request, if no new execution says so.

    `execution_id`: of the execution that runs for it; for a callback the ID of an event. Either is of an earlier
    request if this one repeats it. `receiver_id`: of the execution that a callback is for, if that is known.
    """
    callback = delivery.endpoint.callback
    if execution_id != event_id:
        delivery.outcome = RequestOutcome.DUPLICATE
    elif delivery.head.traceparent.startswith(TEST_TRACE):
        delivery.outcome = RequestOutcome.TEST
    elif callback:
        delivery.outcome = RequestOutcome.ACCEPTED
    else:
        return
    delivery.execution_id = receiver_id if callback else execution_id
    delivery.event_id = execution_id


def sender_identity(match: Match, address: Address, *, authenticated: bool) -> str:
    """Return the identity of a sender among those of a URL; `authenticated`: whether credentials were required."""
    return f"{match.scheme} {match.secret}" if authenticated else network_of(address)


def _check_rate(delivery: Delivery) -> None:
    """Refuse a sender that exceeds its rate limit (`webhook.sender_rate_limit`).

    The edge applies it, rather than the router, because only the edge can identify senders: by the credential that
    authenticated them or, where none is required, by their address. So a sender that exceeds its rate costs no more
    than the check of its signature. Each edge counts separately.
    """
    endpoint = delivery.endpoint
    if endpoint.sender_limiter is not None:
        sender = sender_identity(delivery.verified[1], delivery.address, authenticated=endpoint.asks)
        wait = endpoint.sender_limiter.take(sender, time.monotonic())
        delivery.sender_remaining = endpoint.sender_limiter.remaining(sender)
        if wait:
            raise Refused(responses.sender_rate_limited(math.ceil(wait)))
