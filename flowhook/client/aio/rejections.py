"""Client methods for requests that edges refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from flowhook.client.aio.paging import items
from flowhook.client.asyncio_transport import AsyncTransport
from flowhook.model import RejectedRequest
from flowhook.v1.rejection_service_pb2 import GetRejectionRequest, ListRejectionsRequest
from flowhook.v1.rejection_service_pb2_grpc import RejectionServiceStub
from flowhook.wire import convert_resources


class Rejections:
    """Requests that edges refused: a bounded log. Scope `admin` or `view`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._call = transport.call
        self._stub = RejectionServiceStub(transport.channel)

    def list(self, *, flow_id: str = "", limit: int | None = None) -> AsyncIterator[RejectedRequest]:
        """Yield refused requests, newest first, at most `limit` of them; their headers and bodies are left out."""

        async def page(page_size: int, page_token: str) -> tuple[Sequence[RejectedRequest], str]:
            request = ListRejectionsRequest(flow_id=flow_id, page_size=page_size, page_token=page_token)
            response = await self._call(self._stub.ListRejections, request)
            return [
                convert_resources.rejection_from_proto(each) for each in response.rejections
            ], response.next_page_token

        return items(page, limit)

    async def get(self, rejection_id: str) -> RejectedRequest:
        """Return a refused request.

        Raises:
            NotFoundError: the request is not, or no longer, in the log.
        """
        response = await self._call(self._stub.GetRejection, GetRejectionRequest(rejection_id=rejection_id))
        return convert_resources.rejection_from_proto(response.rejection)
