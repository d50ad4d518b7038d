"""Operations on incidents: destinations of calls that are or were down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowhook.model.incidents import Incident
from operations.operation import PageParameters, Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


class IncidentList(PageParameters):
    """Parameters of `list_incidents`: `page_size` is about those that are over; all open ones are on the first page."""

    open_only: bool = False
    """Whether to leave out those that are over."""


class IncidentId(Parameters):
    """Parameters of operations on one incident."""

    incident_id: str
    """ID of the incident."""


@dataclass(frozen=True, slots=True)
class IncidentPage:
    """The open incidents and those that are over, newest first, and the token of the next page; empty on the last."""

    incidents: tuple[Incident, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class FailedCalls:
    """How many executions that waited had their calls fail."""

    incident_id: str
    executions: int


async def list_incidents(client: AsyncClient, parameters: IncidentList) -> IncidentPage:
    """List destinations that are or were down: the open incidents, then those that are over, newest first."""
    page = await client.incidents.page(**parameters.model_dump())
    return IncidentPage(tuple(page.items), page.next_page_token)


async def get_incident(client: AsyncClient, parameters: IncidentId) -> Incident:
    """Get an incident with its history."""
    return await client.incidents.get(parameters.incident_id)


async def probe_incident(client: AsyncClient, parameters: IncidentId) -> Incident:
    """Let one execution that waits call the destination now, to find out whether it is up."""
    return await client.incidents.probe(parameters.incident_id)


async def let_incident_fail(client: AsyncClient, parameters: IncidentId) -> FailedCalls:
    """Let the calls that wait now fail with the last cause, without a retry: a `catch` around them runs."""
    return FailedCalls(parameters.incident_id, await client.incidents.let_fail(parameters.incident_id))
