"""IncidentService: lists destinations that are or were down, and lets operators act on those that are."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import attrs

from flowhook.errors import ConflictError, NotFoundError
from flowhook.model.incidents import Incident
from flowhook.v1 import incident_service_pb2 as pb
from flowhook.v1 import incident_service_pb2_grpc
from flowhook.wire.mapping import to_proto
from router.calls.error_mapping import unary_rpc
from router.calls.paging import parse_page, split_page
from router.dispatch.outage_control import OutageControl
from router.storage.incidents import IncidentLog

DEFAULT_PAGE: Final = 100


@attrs.define(eq=False, repr=False)
class IncidentService(incident_service_pb2_grpc.IncidentServiceServicer):
    """See protos/flowhook/v1/incident_service.proto."""

    _outages: OutageControl
    _incidents: IncidentLog

    @unary_rpc
    async def ListIncidents(self, request: pb.ListIncidentsRequest) -> pb.ListIncidentsResponse:
        size, before = parse_page(request.page_size, request.page_token, DEFAULT_PAGE)
        found = self._outages.incidents if before is None else []
        token = ""
        if not request.open_only:
            closed, token = split_page(await self._incidents.closed(before_number=before, limit=size + 1), size)
            found = [*found, *(each.incident for each in closed)]
        return pb.ListIncidentsResponse(
            incidents=[_message(replace(each, history=())) for each in found], next_page_token=token
        )

    @unary_rpc
    async def GetIncident(self, request: pb.GetIncidentRequest) -> pb.GetIncidentResponse:
        return pb.GetIncidentResponse(incident=_message(await self._found(request.incident_id)))

    @unary_rpc
    async def ProbeDestination(self, request: pb.ProbeDestinationRequest) -> pb.ProbeDestinationResponse:
        found = await self._open(request.incident_id)
        self._outages.probe_now(found.destination)
        return pb.ProbeDestinationResponse(incident=_message(await self._found(found.id)))

    @unary_rpc
    async def FailWaitingCalls(self, request: pb.FailWaitingCallsRequest) -> pb.FailWaitingCallsResponse:
        found = await self._open(request.incident_id)
        executions = self._outages.let_fail(found.destination) or 0
        return pb.FailWaitingCallsResponse(incident=_message(await self._found(found.id)), executions=executions)

    async def _open(self, incident_id: str) -> Incident:
        found = await self._found(incident_id)
        if found.close_time_ms is not None:
            raise ConflictError(f"the incident {found.id} is over", reason="INCIDENT_CLOSED")
        return found

    async def _found(self, incident_id: str) -> Incident:
        for each in self._outages.incidents:
            if each.id == incident_id:
                return each
        stored = await self._incidents.get(incident_id)
        if stored is None:
            raise NotFoundError(f"there is no incident {incident_id[:64]}", reason="INCIDENT_NOT_FOUND")
        return stored.incident


def _message(incident: Incident) -> pb.Incident:
    return to_proto(incident, pb.Incident)
