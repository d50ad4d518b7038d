"""AuditService: lists the entries of the audit log."""

from __future__ import annotations

from typing import Final

from flowhook.model.audit import AuditEntry
from flowhook.v1 import audit_service_pb2 as pb
from flowhook.v1 import audit_service_pb2_grpc
from flowhook.wire.mapping import to_proto
from router.calls.error_mapping import unary_rpc
from router.calls.paging import page_token_after, parse_page
from router.storage.audit import AuditFilter, AuditLog

DEFAULT_PAGE: Final = 100


class AuditService(audit_service_pb2_grpc.AuditServiceServicer):
    """See protos/flowhook/v1/audit_service.proto."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    @unary_rpc
    async def ListAuditEntries(self, request: pb.ListAuditEntriesRequest) -> pb.ListAuditEntriesResponse:
        size, before = parse_page(request, default=DEFAULT_PAGE)
        wanted = AuditFilter(request.actor, request.action, request.target)
        entries, following = await self._audit.page(wanted, before_number=before, limit=size)
        return pb.ListAuditEntriesResponse(
            entries=[to_proto(_dated(each), pb.AuditEntry) for each in entries],
            next_page_token=page_token_after(following),
        )


def _dated(entry: AuditEntry) -> AuditEntry:
    """Return an entry with the time of its last call, which is that of the only one if there was one."""
    return entry._replace(last_time_ms=entry.last_time_ms or entry.time_ms)
