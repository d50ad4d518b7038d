"""RejectionService: stores requests that edges rejected, for operators to inspect."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import attrs

from flowhook import limits
from flowhook.errors import InvalidError, NotFoundError
from flowhook.model.rejections import RequestOutcome
from flowhook.v1 import rejection_service_pb2 as pb
from flowhook.v1 import rejection_service_pb2_grpc
from flowhook.wire import convert
from flowhook.wire.mapping import enum_from_proto, to_proto
from router.calls.error_mapping import Context, request_stream_rpc, unary_rpc
from router.calls.paging import MAX_PAGE, page_size, parse_page, split_page
from router.rejections.received_requests import ReceivedRequests
from router.rejections.rejection_acceptance import (
    INCOMPLETE,
    RejectionAcceptance,
    pop_original,
    resolved,
)
from router.storage.rejections import RejectionLog, StoredRejection

MAX_REPORTED: Final = 100  # most rejections in one report
# serialized size of one rejection. From a larger one, the headers are removed, and then the body.
MAX_BYTES: Final = 128 * limits.KIB
MAX_BODY_BYTES: Final = 64 * limits.KIB

# characters to which a field is cut: a field chosen by one sender must not cause a whole report to be refused
MAX_TEXTS: Final[Mapping[str, int]] = {
    "callback": 127,
    "reason": 63,
    "detail": 1024,
    "diagnosis": 1024,
    "address": 64,
    "method": 32,
    "path": 2048,
    "query": 2048,
}

DEFAULT_PAGE: Final = 100

_ID: Final = re.compile(r"rej_[0-9a-z]{26}")


@attrs.define(eq=False, repr=False, kw_only=True)
class RejectionService(rejection_service_pb2_grpc.RejectionServiceServicer):
    """See protos/flowhook/v1/rejection_service.proto."""

    _rejections: RejectionLog
    _acceptance: RejectionAcceptance
    _received: ReceivedRequests
    _now_ms: Callable[[], int]

    @unary_rpc
    async def ReportRejections(self, request: pb.ReportRejectionsRequest) -> pb.ReportRejectionsResponse:
        if not 0 < len(request.rejections) <= MAX_REPORTED:
            raise InvalidError(f"a report must have 1 to {MAX_REPORTED} rejections", reason="REPORT_INVALID")
        now_ms = self._now_ms()
        await self._rejections.add([self._stored(each, now_ms) for each in request.rejections])
        return pb.ReportRejectionsResponse()

    @unary_rpc
    async def ListRejections(self, request: pb.ListRejectionsRequest) -> pb.ListRejectionsResponse:
        size, before = parse_page(request.page_size, request.page_token, DEFAULT_PAGE)
        found = await self._rejections.page(
            flow_id=request.flow_id, reason=request.reason, before_number=before, limit=size + 1
        )
        page, token = split_page(found, size)
        listed = [resolved(each) for each in page]
        for each in listed:
            del each.headers[:]
            each.ClearField("body")
        return pb.ListRejectionsResponse(rejections=listed, next_page_token=token)

    @unary_rpc
    async def ListRequests(self, request: pb.ListRequestsRequest) -> pb.ListRequestsResponse:
        outcome = enum_from_proto(request.outcome, RequestOutcome, pb.RequestOutcome) if request.outcome else None
        size = page_size(request.page_size, DEFAULT_PAGE)
        page, token = await self._received.page(request.flow_id, outcome, size, request.page_token)
        return pb.ListRequestsResponse(
            requests=[to_proto(each, pb.ReceivedRequest) for each in page], next_page_token=token
        )

    @unary_rpc
    async def GetRejection(self, request: pb.GetRejectionRequest) -> pb.GetRejectionResponse:
        return pb.GetRejectionResponse(rejection=resolved(await self._found(request.rejection_id)))

    @unary_rpc
    async def CountRejections(self, request: pb.CountRejectionsRequest) -> pb.CountRejectionsResponse:
        counts = await self._rejections.count(flow_id=request.flow_id, limit=MAX_PAGE)
        return pb.CountRejectionsResponse(counts=[to_proto(each, pb.RejectionCount) for each in counts])

    @unary_rpc
    async def AcceptRejection(self, request: pb.AcceptRejectionRequest) -> pb.AcceptRejectionResponse:
        return await self._acceptance.accept(await self._found(request.rejection_id))

    @request_stream_rpc
    async def AttachVerifier(self, request_iterator: AsyncIterator[pb.AttachVerifierRequest], context: Context) -> None:
        await self._acceptance.verifiers.serve(request_iterator, context.write)

    async def _found(self, rejection_id: str) -> StoredRejection:
        found = await self._rejections.get(rejection_id)
        if found is None:
            raise NotFoundError(f"there is no rejection {rejection_id[:64]}", reason="REJECTION_NOT_FOUND")
        return found

    def _stored(self, message: pb.Rejection, now_ms: int) -> StoredRejection:
        """Return a rejection to store, with each field cut to its bounds, and its original request encrypted."""
        if not _ID.fullmatch(message.id) or not 0 < len(message.flow_id) <= limits.MAX_FLOW_ID_LENGTH:
            raise InvalidError("a rejection must have an ID and a flow", reason="REPORT_INVALID")
        # unknown fields can have any length
        message.DiscardUnknownFields()
        for name in ("accepted_event_id", "accepted_by", "accept_time"):
            message.ClearField(name)
        for name, limit in MAX_TEXTS.items():
            setattr(message, name, getattr(message, name)[:limit])
        original = pop_original(message)
        body = message.body
        message.body = body[:MAX_BODY_BYTES]
        for name in ("headers", "body"):
            if message.ByteSize() > MAX_BYTES:
                message.ClearField(name)
        if original is not None and message.body != body:
            original, message.acceptability = None, INCOMPLETE
        # a time in the future would expire other rejections: those a week older than the newest are removed
        time_ms = min(max(convert.milliseconds(message.time), 0), now_ms)
        sealed = None if original is None else self._acceptance.seal.seal(message, original)
        outcome = enum_from_proto(message.outcome, RequestOutcome, pb.RequestOutcome)
        return StoredRejection(
            0,
            message.id,
            message.flow_id,
            time_ms,
            message.SerializeToString(),
            message.reason,
            sealed,
            accepted_id=message.execution_id if outcome is not RequestOutcome.REFUSED else "",
            outcome=outcome,
        )
