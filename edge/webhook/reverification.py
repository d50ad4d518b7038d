"""Verifies refused requests again, at the router's demand: the stages of the pipeline, by the clock of their time.

Nobody waits for a response, nothing is received, and no rate limit of senders applies. The flow is as it is now.
"""

from __future__ import annotations

import attrs

from edge.http.head import Head, MalformedRequestError, parse_head
from edge.http.peer import Peer
from edge.router.flow_cache import FlowCache
from edge.router.rejections import RejectionReporter
from edge.webhook.acceptance import Refused
from edge.webhook.compiled_endpoints import CompiledEndpoint
from edge.webhook.stages import Delivery, RequestViews, Stages, answer_by_head, event_message
from flowhook.errors import FlowhookError, InternalError, InvalidError, NotFoundError, UnavailableError
from flowhook.http.listening import peer_address
from flowhook.process import logs
from flowhook.signatures.diagnosis import DIAGNOSED
from flowhook.signatures.types import Match, SignatureError, Verifier, most_specific
from flowhook.v1 import envelope_pb2
from flowhook.v1.rejection_service_pb2 import AttachVerifierRequest, AttachVerifierResponse, OriginalRequest
from flowhook.wire.convert import milliseconds
from flowhook.wire.status import failure_to_proto

log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class Reverification:
    """Verifies requests that were refused; `rejections` diagnoses what is refused again."""

    _flow_cache: FlowCache
    _rejections: RejectionReporter
    _stages: Stages
    _views: RequestViews

    async def answer(self, request: AttachVerifierResponse) -> AttachVerifierRequest:
        """Return the event of a refused request, or why it is refused again. Never raises."""
        try:
            return AttachVerifierRequest(event=await self._event(request))
        except FlowhookError as error:
            failure = error
        except Refused as refusal:  # the flow does not want it
            failure = refusal.error or InternalError(refusal.response.reason)
        except Exception as error:  # noqa: BLE001 - the router has to learn that this request fails
            log.error("a refused request can't be verified again", cause=type(error).__name__)  # noqa: TRY400 - no data
            failure = InternalError("the edge failed to verify the request; see its log", reason="VERIFIER_FAILED")
        return AttachVerifierRequest(refusal=failure_to_proto(failure))

    async def _event(self, request: AttachVerifierResponse) -> envelope_pb2.Event:
        """Return the event of a request; FlowhookError: it is refused, or can't be verified now."""
        original, body = request.original, request.body
        head = _head(original)
        endpoint = await self._endpoint(request.flow_id, head.path, request.registry_revision)
        peer = Peer(original.peer, original.scheme, peer_address(original.peer), tuple(original.client_names))
        delivery = Delivery(endpoint, head, *self._views.view(head, peer, endpoint.own_host))
        refused = answer_by_head(delivery)
        if refused is not None:
            raise _refusal(refused.reason, head)
        if len(body) > endpoint.max_body:
            raise InvalidError("the body is larger than `max_body`", reason="BODY_TOO_LARGE")
        delivery.request = delivery.request._replace(body=body)
        delivery.verified = await self._verified(delivery, milliseconds(request.time) / 1000)
        event, content, handshake = await self._stages.read_event(delivery)
        if handshake is not None:
            raise _refusal("HANDSHAKE", head)
        if endpoint.acceptance is not None:
            await self._stages.accept(delivery, endpoint.acceptance, event, content)
        message, _ = event_message(delivery, event, content)
        return message

    async def _verified(self, delivery: Delivery, now: float) -> tuple[Verifier, Match]:
        """Verify by the clock of the refusal; SignatureError: with a diagnosis, UnavailableError: no key now."""
        early = await self._stages.verify_head(delivery, now) if delivery.endpoint.early else None
        if early is not None and not isinstance(early, SignatureError):
            return early
        late = await self._stages.verify_body(delivery, now)
        if not isinstance(late, SignatureError):
            return late
        error = most_specific(early, late)
        if error.reason == "KEY_UNAVAILABLE":
            raise UnavailableError(error.detail, reason=error.reason)
        diagnosed = error.reason in DIAGNOSED
        hint = await self._rejections.diagnosis(delivery, now) if diagnosed else ""
        raise SignatureError(f"{error.detail}; {hint}" if hint else error.detail, reason=error.reason)

    async def _endpoint(self, flow_id: str, path: str, revision: int) -> CompiledEndpoint:
        """Return the endpoint at a path, as of a revision or later; NotFoundError: it was deleted."""
        endpoints = await self._flow_cache.find(flow_id)
        if endpoints is None or endpoints.revision < revision:  # the watch may not have reported the fix yet
            self._flow_cache.drop(flow_id)
            endpoints = await self._flow_cache.find(flow_id)
        if endpoints is None:
            raise NotFoundError(f"there is no flow {flow_id} any more, or it has no webhook", reason="FLOW_NOT_FOUND")
        endpoint = endpoints.at(path)
        if endpoint is None or endpoint.one_time:
            raise NotFoundError("the flow has no such callback any more", reason="CALLBACK_NOT_FOUND")
        return endpoint


def _head(original: OriginalRequest) -> Head:
    fields = b"".join(b"%b: %b\r\n" % (field.name.encode(), field.value) for field in original.headers)
    version = b"1.1" if any(field.name == "host" for field in original.headers) else b"1.0"
    line = b"%b %b HTTP/%b\r\n" % (original.method.encode(), original.target.encode(), version)
    try:
        head = parse_head(line + fields)
    except MalformedRequestError as error:  # an edge of another version accepted what this one does not
        raise InvalidError(error.detail, reason=error.reason) from None
    head.host = original.host
    return head


def _refusal(reason: str, head: Head) -> InvalidError:
    """Return the error for the reason of an answer that the pipeline would give; any other one is of a handshake."""
    if reason == "METHOD_NOT_ALLOWED":
        return InvalidError(f"the flow does not accept {head.method}", reason=reason)
    if reason == "ADDRESS_FORBIDDEN":
        return InvalidError("the sender's address is not in `allow_from`", reason=reason)
    return InvalidError(
        "it is a handshake of the provider, not an event: let the provider repeat it", reason="HANDSHAKE"
    )
