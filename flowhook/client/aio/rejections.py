"""Client methods for requests that edges refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

from flowhook.client.aio.paging import iterate
from flowhook.client.aio.transport import AsyncTransport
from flowhook.client.results import Page
from flowhook.model.rejections import (
    AcceptedRejection,
    ReceivedRequest,
    RejectedRequest,
    RejectionCount,
    RequestOutcome,
)
from flowhook.v1 import rejection_service_pb2 as pb
from flowhook.v1.rejection_service_pb2_grpc import RejectionServiceStub
from flowhook.wire.mapping import enum_to_proto, from_proto


class Rejections:
    """Requests that edges refused: a bounded log. Scope `admin` or `view`; `accept` needs `admin`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._call = transport.call
        self._stub = RejectionServiceStub(transport.channel)

    def list(self, *, flow_id: str = "", reason: str = "", limit: int | None = None) -> AsyncIterator[RejectedRequest]:
        """Yield refused requests, newest first, at most `limit` of them; their headers and bodies are left out."""
        return iterate(partial(self.page, flow_id=flow_id, reason=reason), limit)

    async def page(
        self, *, flow_id: str = "", reason: str = "", page_size: int = 100, page_token: str = ""
    ) -> Page[RejectedRequest]:
        """Return a page of what `list` yields (see `Page`): requests to a flow that were refused for a reason.

        An empty `flow_id` matches any flow, an empty `reason` any reason, for example `SIGNATURE_MISMATCH`.
        """
        request = pb.ListRejectionsRequest(flow_id=flow_id, reason=reason, page_size=page_size, page_token=page_token)
        response = await self._call(self._stub.ListRejections, request)
        return Page([from_proto(each, RejectedRequest) for each in response.rejections], response.next_page_token)

    def requests(
        self, *, flow_id: str = "", outcome: RequestOutcome | None = None, limit: int | None = None
    ) -> AsyncIterator[ReceivedRequest]:
        """Yield all requests that arrived, newest first, at most `limit` of them: accepted ones, too."""
        return iterate(partial(self.requests_page, flow_id=flow_id, outcome=outcome), limit)

    async def requests_page(
        self, *, flow_id: str = "", outcome: RequestOutcome | None = None, page_size: int = 100, page_token: str = ""
    ) -> Page[ReceivedRequest]:
        """Return a page of what `requests` yields (see `Page`): requests to a flow with an outcome.

        An empty `flow_id` matches any flow, None any outcome. A page may be short although there is a next one.
        """
        request = pb.ListRequestsRequest(
            flow_id=flow_id,
            outcome=enum_to_proto(outcome, pb.RequestOutcome),
            page_size=page_size,
            page_token=page_token,
        )
        response = await self._call(self._stub.ListRequests, request)
        return Page([from_proto(each, ReceivedRequest) for each in response.requests], response.next_page_token)

    async def get(self, rejection_id: str) -> RejectedRequest:
        """Return a refused request.

        Raises:
            NotFoundError: the request is not, or no longer, in the log.
        """
        response = await self._call(self._stub.GetRejection, pb.GetRejectionRequest(rejection_id=rejection_id))
        return from_proto(response.rejection, RejectedRequest)

    async def count(self, *, flow_id: str = "") -> Sequence[RejectionCount]:
        """Count the refused requests in the log by flow and reason, the greatest first, at most 1000 counts."""
        response = await self._call(self._stub.CountRejections, pb.CountRejectionsRequest(flow_id=flow_id))
        return [from_proto(each, RejectionCount) for each in response.counts]

    async def accept(self, rejection_id: str) -> AcceptedRejection:
        """Verify a refused request again, under the flow's present revision and secrets, and accept it as an event.

        A repeated call returns the same event.

        Raises:
            NotFoundError: the request is not in the log (any more), or its flow or callback was deleted.
            ConflictError: it can't be accepted (`REJECTION_NOT_ACCEPTABLE`), or is still refused (`STILL_REFUSED`): the
                message says why.
            UnavailableError: no edge is there to verify it (`NO_VERIFIER`, `VERIFICATION_TIMEOUT`).
        """
        response = await self._call(self._stub.AcceptRejection, pb.AcceptRejectionRequest(rejection_id=rejection_id))
        return from_proto(response, AcceptedRejection)
