"""AuditService: lists the entries of the audit log."""

from __future__ import annotations

from typing import Final

import attrs

from flowhook.v1 import audit_service_pb2 as pb
from flowhook.v1 import audit_service_pb2_grpc
from flowhook.wire.mapping import to_proto
from router.calls.error_mapping import unary_rpc
from router.calls.paging import page_token_after, parse_page
from router.storage.audit import AuditFilter, AuditLog

DEFAULT_PAGE: Final = 100


@attrs.define(eq=False, repr=False)
class AuditService(audit_service_pb2_grpc.AuditServiceServicer):
    """See protos/flowhook/v1/audit_service.proto."""

    _audit: AuditLog

    @unary_rpc
    async def ListAuditEntries(self, request: pb.ListAuditEntriesRequest) -> pb.ListAuditEntriesResponse:
        size, before = parse_page(request.page_size, request.page_token, DEFAULT_PAGE)
        wanted = AuditFilter(request.actor, request.action, request.target)
        entries, following = await self._audit.page(wanted, before_number=before, limit=size)
        # the time of its last call is that of the only one if there was one
        dated = (each._replace(last_time_ms=each.last_time_ms or each.time_ms) for each in entries)
        return pb.ListAuditEntriesResponse(
            entries=[to_proto(each, pb.AuditEntry) for each in dated], next_page_token=page_token_after(following)
        )
