"""Client methods for incidents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from flowhook.client.aio.paging import iterate
from flowhook.client.aio.transport import AsyncTransport
from flowhook.client.results import Page
from flowhook.model.incidents import Incident
from flowhook.v1.incident_service_pb2 import (
    FailWaitingCallsRequest,
    GetIncidentRequest,
    ListIncidentsRequest,
    ProbeDestinationRequest,
)
from flowhook.v1.incident_service_pb2_grpc import IncidentServiceStub
from flowhook.wire.mapping import from_proto


class Incidents:
    """Destinations of calls that are or were down. Scope `admin` or `view`; `probe` and `let_fail` need `admin`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._call = transport.call
        self._stub = IncidentServiceStub(transport.channel)

    def list(self, *, open_only: bool = False, limit: int | None = None) -> AsyncIterator[Incident]:
        """Yield the open incidents, then those that are over, newest first, without their history."""
        return iterate(partial(self.page, open_only=open_only), limit)

    async def page(self, *, open_only: bool = False, page_size: int = 100, page_token: str = "") -> Page[Incident]:
        """Return a page of what `list` yields (see `Page`); all open ones are on the first page."""
        request = ListIncidentsRequest(open_only=open_only, page_size=page_size, page_token=page_token)
        response = await self._call(self._stub.ListIncidents, request)
        return Page([from_proto(each, Incident) for each in response.incidents], response.next_page_token)

    async def get(self, incident_id: str) -> Incident:
        """Return an incident.

        Raises:
            NotFoundError: it is not, or no longer, in the log.
        """
        response = await self._call(self._stub.GetIncident, GetIncidentRequest(incident_id=incident_id))
        return from_proto(response.incident, Incident)

    async def probe(self, incident_id: str) -> Incident:
        """Let one execution that waits call the destination now.

        Raises:
            NotFoundError: the incident is not in the log.
            ConflictError: it is over (`INCIDENT_CLOSED`).
        """
        request = ProbeDestinationRequest(incident_id=incident_id)
        return from_proto((await self._call(self._stub.ProbeDestination, request)).incident, Incident)

    async def let_fail(self, incident_id: str) -> int:
        """Let the calls that wait fail with the last cause, and return of how many executions.

        Raises as `probe` does.
        """
        request = FailWaitingCallsRequest(incident_id=incident_id)
        return (await self._call(self._stub.FailWaitingCalls, request)).executions
