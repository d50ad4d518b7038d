"""Client methods for the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator

from flowhook.client.aio.paging import items
from flowhook.client.asyncio_transport import AsyncTransport
from flowhook.client.results import Page
from flowhook.model.audit import AuditEntry
from flowhook.v1.audit_service_pb2 import ListAuditEntriesRequest
from flowhook.v1.audit_service_pb2_grpc import AuditServiceStub
from flowhook.wire.mapping import from_proto


class Audit:
    """The audit log: calls that changed something. Scope `admin` or `view`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._call = transport.call
        self._stub = AuditServiceStub(transport.channel)

    def list(
        self, *, actor: str = "", action: str = "", target: str = "", limit: int | None = None
    ) -> AsyncIterator[AuditEntry]:
        """Yield entries that meet all conditions, newest first, at most `limit` of them; see `page`."""

        async def page(page_size: int, page_token: str) -> Page[AuditEntry]:
            return await self.page(
                actor=actor, action=action, target=target, page_size=page_size, page_token=page_token
            )

        return items(page, limit)

    async def page(
        self, *, actor: str = "", action: str = "", target: str = "", page_size: int = 100, page_token: str = ""
    ) -> Page[AuditEntry]:
        """Return a page of what `list` yields; it may have fewer entries, or none, before the last page.

        Args:
            actor: name of a token; empty: any.
            action: a method, for example `FlowService/PauseFlow`; empty: any.
            target: part of the target; empty: any.
            page_size: entries on the page at most, in [1, 1000].
            page_token: `next_page_token` of the page before, with the same conditions; empty: the first page.

        Raises:
            InvalidError: the token is not one of a page (`PAGE_TOKEN_INVALID`).
        """
        request = ListAuditEntriesRequest(
            actor=actor, action=action, target=target, page_size=page_size, page_token=page_token
        )
        response = await self._call(self._stub.ListAuditEntries, request)
        return Page([from_proto(each, AuditEntry) for each in response.entries], response.next_page_token)
