"""Client methods for the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from flowhook.client.aio.paging import iterate
from flowhook.client.aio.transport import AsyncTransport
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
        return iterate(partial(self.page, actor=actor, action=action, target=target), limit)

    async def page(
        self, *, actor: str = "", action: str = "", target: str = "", page_size: int = 100, page_token: str = ""
    ) -> Page[AuditEntry]:
        """Return a page of what `list` yields (see `Page`).

        `actor` is the name of a token, `action` a method, for example `FlowService/PauseFlow`, and `target` a part of
        the target; an empty one matches any.
        """
        request = ListAuditEntriesRequest(
            actor=actor, action=action, target=target, page_size=page_size, page_token=page_token
        )
        response = await self._call(self._stub.ListAuditEntries, request)
        return Page([from_proto(each, AuditEntry) for each in response.entries], response.next_page_token)
