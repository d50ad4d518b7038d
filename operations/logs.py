"""Operations on what routers and edges noted: the audit log, incidents, requests that arrived or were refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowhook.model.audit import AuditEntry
from flowhook.model.events import Headers
from flowhook.model.incidents import Incident
from flowhook.model.rejections import (
    AcceptedRejection,
    ReceivedRequest,
    RejectedRequest,
    RejectionCount,
    RequestOutcome,
)
from operations.encoding import shown_fields, to_json
from operations.operation import PageParameters, Parameters, whole

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


class AuditConditions(Parameters):
    """Parameters of `export_audit`."""

    actor: str = ""
    """Name of a token; empty: any."""
    action: str = ""
    """A method, for example `FlowService/PauseFlow`; empty: any."""
    target: str = ""
    """Part of what it was about, for example the ID of a flow; empty: any."""


class AuditList(AuditConditions, PageParameters):
    """Parameters of `list_audit`."""


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Entries, newest first, and the token of the next page; empty on the last."""

    entries: tuple[AuditEntry, ...]
    next_page_token: str


async def list_audit(client: AsyncClient, parameters: AuditList) -> AuditPage:
    """List what was changed, by whom, newest first."""
    page = await client.audit.page(**parameters.model_dump())
    return AuditPage(tuple(page.items), page.next_page_token)


async def export_audit(client: AsyncClient, parameters: AuditConditions) -> AsyncIterator[bytes]:
    """Read the audit log as JSON objects, one a line, newest first."""
    return (to_json(entry) + b"\n" async for entry in client.audit.list(**parameters.model_dump()))


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


class RejectionList(PageParameters):
    """Parameters of `list_rejections`."""

    flow: str = ""
    """ID of a flow; empty: any."""
    reason: str = ""
    """Why they were refused, for example `SIGNATURE_MISMATCH`; empty: for any reason."""


class RejectionId(Parameters):
    """Parameters of operations on one refused request."""

    rejection_id: str
    """ID of the refused request."""


@dataclass(frozen=True, slots=True)
class RejectionPage:
    """Refused requests, newest first, and the token of the next page; empty on the last.

    `counts` are those of all refused requests of the flow that are stored, whatever the reason, the greatest first.
    """

    rejections: tuple[RejectedRequest, ...]
    next_page_token: str
    counts: tuple[RejectionCount, ...]


@dataclass(frozen=True, slots=True)
class RejectionDetail(RejectedRequest):
    """A refused request with its header fields; the values of those that may be credentials are left out.

    `body`: its first 64 KiB as text; null: it is not stored.
    """

    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedRequest(AcceptedRejection):
    """The event that a refused request was accepted as; `execution_id` is empty for a callback.

    `duplicate`: the request was accepted before, or repeats a delivery that was.
    """

    rejection_id: str


async def list_rejections(client: AsyncClient, parameters: RejectionList) -> RejectionPage:
    """List refused requests, newest first."""
    page = await client.rejections.page(flow_id=parameters.flow, **parameters.model_dump(exclude={"flow"}))
    counts = tuple(await client.rejections.count(flow_id=parameters.flow))
    return RejectionPage(tuple(page.items), page.next_page_token, counts)


async def get_rejection(client: AsyncClient, parameters: RejectionId) -> RejectionDetail:
    """Get a refused request."""
    found = await client.rejections.get(parameters.rejection_id)
    return RejectionDetail(**shown_fields(RejectionDetail, found))


async def read_rejection_body(client: AsyncClient, parameters: RejectionId) -> AsyncIterator[bytes]:
    """Read the body of a refused request, byte for byte, if the flow stores it: its first 64 KiB."""
    return whole((await client.rejections.get(parameters.rejection_id)).body)


async def accept_rejection(client: AsyncClient, parameters: RejectionId) -> AcceptedRequest:
    """Verify a refused request again, after its flow or a secret was corrected, and accept it."""
    accepted = await client.rejections.accept(parameters.rejection_id)
    return AcceptedRequest(rejection_id=parameters.rejection_id, **shown_fields(AcceptedRejection, accepted))


class RequestList(PageParameters):
    """Parameters of `list_requests`."""

    flow: str = ""
    """ID of a flow; empty: any."""
    outcome: RequestOutcome | None = None
    """What became of them; absent: anything."""


@dataclass(frozen=True, slots=True)
class RequestPage:
    """Requests, newest first, and the token of the next page; empty on the last.

    It may be short, or empty, although there is a next one.
    """

    requests: tuple[ReceivedRequest, ...]
    next_page_token: str


async def list_requests(client: AsyncClient, parameters: RequestList) -> RequestPage:
    """List all requests that arrived, newest first: accepted, refused, filtered, repeated, handshakes and tests."""
    page = await client.rejections.requests_page(flow_id=parameters.flow, **parameters.model_dump(exclude={"flow"}))
    return RequestPage(tuple(page.items), page.next_page_token)
