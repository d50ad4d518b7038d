"""Verifies refused requests again, at the router's demand: the checks of the pipeline, by the clock of their time.

Nobody waits for a response, nothing is received, and no rate limit of senders applies. The flow is as it is now.
"""

from __future__ import annotations

import attrs

from edge.http.head import Head, MalformedRequestError, parse_head
from edge.router.flow_cache import FlowCache
from edge.router.rejections import RejectionReporter
from edge.webhook.body_parser import BodyParser
from edge.webhook.compiled_endpoints import CompiledEndpoint
from edge.webhook.events import build_event, event_message
from edge.webhook.key_cache import KeyCache
from edge.webhook.verification import Outcome, RequestViews, check, check_with_body, most_specific, with_json
from flowhook import limits
from flowhook.errors import FlowhookError, InternalError, InvalidError, NotFoundError, UnavailableError
from flowhook.events.workflow_input import webhook_view
from flowhook.http.listening import peer_address
from flowhook.process import logs
from flowhook.signatures import JsonBody, Match, RequestView, SignatureError, Verifier, json_of
from flowhook.signatures.diagnosis import DIAGNOSED
from flowhook.v1 import envelope_pb2
from flowhook.v1.rejection_service_pb2 import AttachVerifierRequest, AttachVerifierResponse, OriginalRequest
from flowhook.wire.convert import milliseconds
from flowhook.wire.failures import failure_to_proto

PREFIX = "/hook/"

log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class Reverification:
    """Verifies requests that were refused.

    Its collaborators are those of the pipeline; `rejections` diagnoses what is refused again.
    """

    _flow_cache: FlowCache
    _rejections: RejectionReporter
    _keys: KeyCache = attrs.field(kw_only=True)
    _body_parser: BodyParser = attrs.field(kw_only=True)
    _views: RequestViews = attrs.field(kw_only=True)

    async def answer(self, request: AttachVerifierResponse) -> AttachVerifierRequest:
        """Return the event of a refused request, or why it is refused again. Never raises."""
        try:
            return AttachVerifierRequest(event=await self._event(request))
        except FlowhookError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - the router has to learn that this request fails
            log.error("a refused request can't be verified again", cause=type(error).__name__)  # noqa: TRY400 - no data
            failure = InternalError("the edge failed to verify the request; see its log", reason="VERIFIER_FAILED")
        return AttachVerifierRequest(refusal=failure_to_proto(failure))

    async def _event(self, request: AttachVerifierResponse) -> envelope_pb2.Event:
        """Return the event of a request.

        Raises:
            FlowhookError: it is refused, or can't be verified now.
        """
        original, body = request.original, request.body
        head = _head(original)
        endpoint = await self._endpoint(request.flow_id, head.path, request.registry_revision)
        address, seen = self._views.view(
            head, peer_address(original.peer), original.scheme, tuple(original.client_names)
        )
        handshakes = endpoint.handshakes
        if handshakes is not None and handshakes.early(seen) is not None:
            raise _handshake()
        if head.method not in endpoint.methods:
            raise InvalidError(f"the flow does not accept {head.method}", reason="METHOD_NOT_ALLOWED")
        if not endpoint.admits(address):
            raise InvalidError("the sender's address is not in `allow_from`", reason="ADDRESS_FORBIDDEN")
        if len(body) > endpoint.max_body:
            raise InvalidError("the body is larger than `max_body`", reason="BODY_TOO_LARGE")
        seen, verified = await self._authenticated(
            endpoint, seen._replace(body=body), milliseconds(request.time) / 1000
        )
        event = build_event(endpoint, head, seen, verified[1])
        if endpoint.needs_json_body and (seen.json is None or len(body) > endpoint.max_unverified_json):
            seen = await with_json(seen, JsonBody(endpoint.max_parsed, limits.MAX_VALUES))
        content = self._body_parser.at_once(endpoint, head, seen) or await self._body_parser.apart(
            endpoint, head, seen, event
        )
        if handshakes is not None:
            shaken = content.body if content.body is not None or not body else json_of(seen)
            if handshakes.late(verified[1], seen, shaken) is not None:
                raise _handshake()
        view = webhook_view(event, content.body) if endpoint.needs_view else None
        return event_message(endpoint, seen, verified, view, event=event, content=content)

    async def _authenticated(
        self, endpoint: CompiledEndpoint, request_view: RequestView, now: float
    ) -> tuple[RequestView, tuple[Verifier, Match]]:
        """Verify a request by the clock of the time when it was refused.

        Raises:
            SignatureError: it is refused, with a diagnosis.
            UnavailableError: a key can't be fetched now.
        """
        if endpoint.early_keyed:
            request_view = await self._keys.add(request_view, endpoint.early_keyed)
        outcome: Outcome | None = check(endpoint.early, request_view, now) if endpoint.early else None
        if outcome is not None and not isinstance(outcome, SignatureError):
            return request_view, outcome
        request_view, late = await check_with_body(endpoint, request_view, self._keys, now)
        if not isinstance(late, SignatureError):
            return request_view, late
        error = most_specific(outcome, late)
        if error.reason == "KEY_UNAVAILABLE":
            raise UnavailableError(error.detail, reason=error.reason)
        hint = await self._rejections.diagnosis(endpoint, request_view, now) if error.reason in DIAGNOSED else ""
        raise SignatureError(f"{error.detail}; {hint}" if hint else error.detail, reason=error.reason)

    async def _endpoint(self, flow_id: str, path: str, revision: int) -> CompiledEndpoint:
        """Return the endpoint at a path, as of a revision of the registry or a later one.

        Raises:
            NotFoundError: the flow, or the callback, was deleted.
        """
        endpoints = await self._flow_cache.find(flow_id)
        if endpoints is None or endpoints.revision < revision:  # the watch may not have reported the fix yet
            self._flow_cache.drop(flow_id)
            endpoints = await self._flow_cache.find(flow_id)
        if endpoints is None:
            raise NotFoundError(f"there is no flow {flow_id} any more, or it has no webhook", reason="FLOW_NOT_FOUND")
        _, slash, suffix = path.removeprefix(PREFIX).partition("/")
        endpoint = endpoints.at_suffix(suffix) if slash else endpoints.own
        if endpoint is None or endpoint.one_time:
            raise NotFoundError("the flow has no such callback any more", reason="CALLBACK_NOT_FOUND")
        return endpoint


def _head(original: OriginalRequest) -> Head:
    """Return the head that a request was received with."""
    fields = b"".join(b"%b: %b\r\n" % (field.name.encode(), field.value) for field in original.headers)
    version = b"1.1" if any(field.name == "host" for field in original.headers) else b"1.0"
    line = b"%b %b HTTP/%b\r\n" % (original.method.encode(), original.target.encode(), version)
    try:
        head = parse_head(line + fields)
    except MalformedRequestError as error:  # an edge of another version accepted what this one does not
        raise InvalidError(error.detail, reason=error.reason) from None
    head.host = original.host
    return head


def _handshake() -> InvalidError:
    return InvalidError(
        "it is a handshake of the provider, not an event: let the provider repeat it", reason="HANDSHAKE"
    )
