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
from http import HTTPStatus
from typing import Final

import attrs
from tornado.iostream import StreamClosedError

from edge.http import responses
from edge.http.body_stream import BodyStream, BodyTooLargeError
from edge.http.head import Head
from edge.http.receive_budget import Overloaded
from edge.http.request import IncomingRequest
from edge.http.responses import Response
from edge.router.body_uploads import BodyUploads, SignatureRejectedError, UploadedBody
from edge.router.flow_cache import FlowCache
from edge.router.ingest import IngestBatcher, IngestUnavailableError
from edge.router.rejections import MAX_BODY_BYTES, RejectionReporter
from edge.router.replies import PREFIX as REPLIES
from edge.router.replies import REFUSED, SyncReplies
from edge.webhook.body_parser import BodyParser
from edge.webhook.compiled_endpoints import CompiledEndpoint, ParsedContent
from edge.webhook.document_fetcher import DocumentFetcher, FetchError
from edge.webhook.events import build_event, event_message
from edge.webhook.handshakes import DONE, FetchUrl
from edge.webhook.health import HealthPaths
from edge.webhook.key_cache import KeyCache
from edge.webhook.log_limiter import RateLimitedLogger
from edge.webhook.sender_rate_limiter import sender_identity
from edge.webhook.verification import Outcome, RequestViews, check, check_with_body, most_specific, with_json
from flowhook import limits
from flowhook.errors import ExhaustedError, FlowhookError, InvalidError, NotFoundError
from flowhook.events.workflow_input import webhook_view
from flowhook.http.forwarded import Address
from flowhook.model import Event
from flowhook.sandbox import INLINE_BYTES
from flowhook.sharing.addresses import network_of
from flowhook.signatures import (
    JsonBody,
    Match,
    RequestView,
    SignatureError,
    Verifier,
    json_of,
)
from flowhook.v1.failure_pb2 import DISPOSITION_RETRYABLE, Failure
from flowhook.wire.failures import THROTTLED, failure_to_proto

PREFIX: Final = "/hook/"

MAX_GROWTH: Final = 3
"""Upper bound of the ratio of an event's metadata to the head it is made from: an event contains Content-Type and
traceparent twice, the second time in UTF-8, which takes two bytes for each byte that is not ASCII."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_.~-]{1,128}")
"""Syntax of the token of a one-time URL; only the router can tell whether a token is valid."""

_OF_CALLBACKS: Final = {
    "CALLBACK_NOT_FOUND": responses.CALLBACK_NOT_FOUND,
    "CALLBACK_GONE": responses.CALLBACK_GONE,
    "CALLBACK_AMBIGUOUS": responses.CALLBACK_AMBIGUOUS,
    "CALLBACK_TOO_LARGE": responses.CALLBACK_TOO_LARGE,
}
"""Responses by the router's reasons."""


class _Refused(Exception):  # noqa: N818 - carries a response, not an error
    """The request is refused with the given response."""

    def __init__(
        self, response: Response, *, error: SignatureError | None = None, request_view: RequestView | None = None
    ) -> None:
        super().__init__(response.status, response.reason)
        self.response = response
        self.error = error
        self.request_view = request_view


@attrs.define(eq=False, repr=False)
class WebhookHandler:
    """The HTTP handler for webhooks, callbacks and replies.

    `ingest` stores events, except those for `callbacks`, which take the router longer.
    """

    _flow_cache: FlowCache
    _ingest: IngestBatcher
    _callbacks: IngestBatcher
    _replies: SyncReplies
    _logger: RateLimitedLogger = attrs.field(kw_only=True)
    _rejections: RejectionReporter = attrs.field(kw_only=True)
    _keys: KeyCache = attrs.field(kw_only=True)
    _fetcher: DocumentFetcher = attrs.field(kw_only=True)
    _body_parser: BodyParser = attrs.field(kw_only=True)
    _uploads: BodyUploads = attrs.field(kw_only=True)
    _views: RequestViews = attrs.field(kw_only=True)
    _health: HealthPaths = attrs.field(kw_only=True)

    async def handle(self, request: IncomingRequest) -> Response:
        """Handle one request and return the response.

        Raises:
            StreamClosedError: the sender disconnected before the request was complete, or its framing is invalid.
        """
        try:
            if request.head.path.startswith(REPLIES):
                address, _ = self._views.view(request.head, request.address, request.scheme, request.client_names)
                return await self._replies.fetch(request.head, self._views.principal(address))
            if (health := self._health.answer(request.head)) is not None:
                return health
            endpoint = await self._endpoint(request.head)
        except _Refused as refusal:
            return refusal.response
        address, seen = self._views.view(request.head, request.address, request.scheme, request.client_names)
        error: SignatureError | None = None
        try:
            if address != request.address:
                request.charge_to(address)
            answer = await self._accept(endpoint, request, address, seen)
        except _Refused as refusal:
            answer, error, seen = refusal.response, refusal.error, refusal.request_view or seen
        except BodyTooLargeError:
            answer = responses.BODY_TOO_LARGE
        except Overloaded:
            return responses.OVERLOADED
        except IngestUnavailableError:
            return responses.ROUTER_UNAVAILABLE
        if answer.reason and answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self._rejections.record(
                endpoint, request.head, request.peer, address, answer, error=error, request_view=seen, now=time.time()
            )
        return answer

    async def _accept(
        self, endpoint: CompiledEndpoint, request: IncomingRequest, address: Address, request_view: RequestView
    ) -> Response:
        head = request.head
        handshakes = endpoint.handshakes
        admitted = endpoint.admits(address)
        if handshakes is not None and admitted and (answer := handshakes.early(request_view)) is not None:
            return answer
        if head.method not in endpoint.methods:
            return responses.FLOW_FOUND if head.method == "HEAD" else endpoint.not_allowed
        if not admitted:
            return responses.ADDRESS_FORBIDDEN
        request_view, verified, streamed = await self._authenticated(endpoint, request, request_view, address)
        event = build_event(endpoint, head, request_view, verified[1])
        if streamed is not None:
            event = event._replace(body_blob=streamed.blob, parts=streamed.parts, form=streamed.form)
            return await self._store(
                endpoint, request, address, request_view, verified, event=event, content=ParsedContent(streamed.content)
            )
        _check_rate(endpoint, verified[1], address, request_view)
        if endpoint.needs_json_body and (
            request_view.json is None or len(request_view.body) > endpoint.max_unverified_json
        ):
            request_view = await with_json(request_view, JsonBody(endpoint.max_parsed, limits.MAX_VALUES))
        try:
            content = self._body_parser.at_once(endpoint, head, request_view) or await self._body_parser.apart(
                endpoint, head, request_view, event
            )
        except InvalidError as error:
            too_large = error.reason == "BODY_TOO_LARGE"
            refusal = responses.BODY_TOO_LARGE if too_large else responses.body_invalid(error.message)
            raise _Refused(refusal, request_view=request_view) from None
        except ExhaustedError:
            raise Overloaded from None
        if handshakes is not None:
            content_of_handshake = (
                content.body if content.body is not None or not request_view.body else json_of(request_view)
            )
            handshake = handshakes.late(verified[1], request_view, content_of_handshake)
            if handshake is not None:
                return await self._visited(handshake) if isinstance(handshake, FetchUrl) else handshake
        return await self._store(endpoint, request, address, request_view, verified, event=event, content=content)

    async def _authenticated(
        self, endpoint: CompiledEndpoint, request: IncomingRequest, request_view: RequestView, address: Address
    ) -> tuple[RequestView, tuple[Verifier, Match], UploadedBody | None]:
        """Receive and verify the body of a request; return the request, the match, and the upload of a large body."""
        if endpoint.early_keyed:
            request_view = await self._keys.add(request_view, endpoint.early_keyed)
        now = time.time()
        verified = check(endpoint.early, request_view, now) if endpoint.early else None
        good = verified is not None and not isinstance(verified, SignatureError)
        if not good and not endpoint.has_signature(request_view.headers):
            errors = verified, check(endpoint.late, request_view, now)
            if endpoint.stores_rejected_bodies and 0 < request.head.length <= min(MAX_BODY_BYTES, endpoint.max_body):
                with contextlib.suppress(Overloaded, StreamClosedError):  # it is refused and recorded all the same
                    request_view = request_view._replace(body=await request.body(MAX_BODY_BYTES))
            raise self._unauthenticated(endpoint, address, request_view, *errors)
        if 0 <= request.head.length <= limits.STREAMED_BODY_BYTES:
            body = await request.body(endpoint.max_body)
        else:
            received = await request.receive(
                endpoint.max_body_size(request_view.headers, verified=good),
                endpoint.max_buffered_size(request.head, verified=good),
            )
            if isinstance(received, BodyStream):
                streamed = await self._stream(endpoint, request.head, address, request_view, verified, body=received)
                return request_view, streamed.verified, streamed
            body = received
        if body:
            request_view = request_view._replace(body=body)
        if verified is None or isinstance(verified, SignatureError):
            earlier = verified
            if endpoint.reads_json or endpoint.late_keyed or len(body) > INLINE_BYTES:
                request_view, verified = await check_with_body(endpoint, request_view, self._keys, time.time())
            else:
                verified = check(endpoint.late, request_view, time.time())
            if isinstance(verified, SignatureError):
                raise self._unauthenticated(endpoint, address, request_view, earlier, verified)
        return request_view, verified, None

    async def _stream(
        self,
        endpoint: CompiledEndpoint,
        head: Head,
        address: Address,
        request_view: RequestView,
        earlier: Outcome | None,
        *,
        body: BodyStream,
    ) -> UploadedBody:
        """Store a body while it arrives; the conditions for accepting it are the same as for one in memory."""
        try:
            verified = None if isinstance(earlier, SignatureError) else earlier
            return await self._uploads.take(
                endpoint,
                head,
                request_view,
                body,
                verified,
                sender=network_of(address),
                admit=lambda match: _check_rate(endpoint, match, address, request_view),
            )
        except SignatureRejectedError as refusal:
            raise self._unauthenticated(endpoint, address, request_view, earlier, *refusal.errors) from None
        except InvalidError as error:
            if error.reason == "BODY_INVALID":
                raise _Refused(responses.body_invalid(error.message)) from None
            raise _Refused(self._rejected(endpoint, failure_to_proto(error))) from None
        except (ExhaustedError, NotFoundError) as error:
            raise _Refused(self._rejected(endpoint, failure_to_proto(error))) from None
        except FlowhookError as error:
            if error.reason not in REFUSED:
                raise IngestUnavailableError from None
            raise _Refused(self._rejected(endpoint, failure_to_proto(error))) from None

    async def _visited(self, visit: FetchUrl) -> Response:
        """Visit the URL that a handshake requires, and return the response."""
        try:
            if await self._fetcher.fetch(visit.url) is not None:
                return DONE
        except FetchError as error:
            self._logger.warning("a handshake can't be completed", detail=str(error))
        return responses.HANDSHAKE_UNAVAILABLE

    async def _endpoint(self, head: Head) -> CompiledEndpoint:
        path = head.path
        if not path.startswith(PREFIX):
            raise _Refused(responses.FLOW_NOT_FOUND)
        flow_id, slash, suffix = path[len(PREFIX) :].partition("/")
        try:
            endpoints = await self._flow_cache.find(flow_id)
        except FlowhookError:
            raise _Refused(responses.ROUTER_UNAVAILABLE) from None
        if endpoints is None:
            raise _Refused(responses.FLOW_NOT_FOUND)
        if not slash:
            return endpoints.own
        endpoint = endpoints.at_suffix(suffix)
        if endpoint is None:
            raise _Refused(responses.FLOW_NOT_FOUND)
        if endpoint.one_time and _TOKEN.fullmatch(suffix.partition("/")[2]) is None:
            raise _Refused(responses.CALLBACK_NOT_FOUND)
        return endpoint

    def _unauthenticated(
        self, endpoint: CompiledEndpoint, address: Address, request_view: RequestView, *outcomes: Outcome | None
    ) -> _Refused:
        error = most_specific(*outcomes)
        self._logger.warning(
            "request unauthenticated",
            **endpoint.log_fields,
            scheme=endpoint.schemes,
            reason=error.reason,
            detail=error.detail,
            address=str(address),
        )
        if error.reason == "KEY_UNAVAILABLE":  # not the sender's fault, so a retry may succeed
            return _Refused(responses.KEYS_UNAVAILABLE, error=error, request_view=request_view)
        return _Refused(endpoint.unauthenticated, error=error, request_view=request_view)

    async def _store(
        self,
        endpoint: CompiledEndpoint,
        request: IncomingRequest,
        address: Address,
        request_view: RequestView,
        verified: tuple[Verifier, Match],
        *,
        event: Event,
        content: ParsedContent,
    ) -> Response:
        """Store the event, and return the response that the flow configures."""
        shown = webhook_view(event, content.body) if endpoint.needs_view else None
        message = event_message(endpoint, request_view, verified, shown, event=event, content=content)
        if endpoint.flow is not None:
            try:
                held = self._replies.hold(message, endpoint.flow, self._views.principal(address))
                return await request.hold(held)
            except FlowhookError as error:
                return self._rejected(endpoint, failure_to_proto(error))
        size = MAX_GROWTH * request.head.size + len(request_view.body) + (message.ByteSize() if event.body_blob else 0)
        result = await (self._callbacks if endpoint.callback else self._ingest).submit(message, size)
        if result.HasField("accepted"):
            return endpoint.response.render(result.accepted.execution_id, shown)
        return self._rejected(endpoint, result.rejected)

    def _rejected(self, endpoint: CompiledEndpoint, failure: Failure) -> Response:
        if failure.reason == "FLOW_NOT_FOUND":
            self._flow_cache.drop(endpoint.flow_id)
            return responses.FLOW_NOT_FOUND
        if failure.reason in _OF_CALLBACKS:
            if failure.reason == "CALLBACK_NOT_FOUND" and not endpoint.one_time:
                self._flow_cache.drop(endpoint.flow_id)
            return _OF_CALLBACKS[failure.reason]
        if failure.reason in THROTTLED:
            return responses.flow_rate_limited(failure.reason, failure.retry_after_seconds or 1)
        if failure.reason in ("TOO_MANY_WAITERS", "WAITERS_FULL"):
            return responses.TOO_MANY_HELD
        if failure.disposition == DISPOSITION_RETRYABLE:
            return responses.service_unavailable(failure.reason, failure.retry_after_seconds or 1)
        self._logger.warning(
            "router refused an event",
            **endpoint.log_fields,
            reason=failure.reason,
            detail=failure.message,
        )
        return responses.NOT_STORED


def _check_rate(endpoint: CompiledEndpoint, match: Match, address: Address, request_view: RequestView) -> None:
    """Refuse a sender that exceeds its rate limit."""
    if endpoint.sender_limiter is None:
        return
    wait = endpoint.sender_limiter.take(sender_identity(match, address, authenticated=endpoint.asks), time.monotonic())
    if wait:
        raise _Refused(responses.sender_rate_limited(math.ceil(wait)), request_view=request_view)
