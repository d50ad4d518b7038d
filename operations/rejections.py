"""Operations on the log of refused requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from flowhook.model.rejections import Acceptability, RejectedRequest
from operations.executions import header_texts
from operations.operation import Parameters, shown_fields

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


class RejectionList(Parameters):
    """Parameters of `list_rejections`."""

    flow: str = ""
    """ID of a flow; empty: any."""
    reason: str = ""
    """Why they were refused, for example `SIGNATURE_MISMATCH`; empty: for any reason."""
    page_size: Annotated[int, Field(ge=1, le=1000)] = 50
    """Rejections on the page at most."""
    page_token: str = ""
    """`next_page_token` of the page before, for the same flow and reason; empty: the newest rejections."""


class RejectionId(Parameters):
    """Parameters of operations on one refused request."""

    rejection_id: str
    """ID of the refused request."""


@dataclass(frozen=True, slots=True)
class RejectionView:
    """A refused request.

    `body_size` is -1 when it is not known. `accepted_execution_id` is empty if it was not accepted, or for a callback.
    """

    id: str
    flow_id: str
    callback: str
    refused_at: datetime
    status: int
    reason: str
    detail: str
    diagnosis: str
    address: str
    method: str
    path: str
    query: str
    body_size: int
    suppressed: int
    acceptability: Acceptability
    accepted_event_id: str
    accepted_execution_id: str
    accepted_by: str
    accepted_at: datetime | None


@dataclass(frozen=True, slots=True)
class RejectionCountView:
    """How many refused requests of a flow are stored for one reason, since when, and the time of the latest."""

    flow_id: str
    reason: str
    count: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class RejectionPage:
    """Refused requests, newest first, and the token of the next page; empty on the last.

    `counts` are those of all refused requests of the flow that are stored, whatever the reason, the greatest first.
    """

    rejections: tuple[RejectionView, ...]
    next_page_token: str
    counts: tuple[RejectionCountView, ...]


@dataclass(frozen=True, slots=True)
class RejectionDetail(RejectionView):
    """A refused request with its header fields; the values of those that may be credentials are left out.

    `body`: its first 64 KiB as text; null: it is not stored.
    """

    headers: Mapping[str, str]
    body: str | None


@dataclass(frozen=True, slots=True)
class AcceptedView:
    """The event that a refused request was accepted as; `execution_id` is empty for a callback.

    `duplicate`: the request was accepted before, or repeats a delivery that was.
    """

    rejection_id: str
    event_id: str
    execution_id: str
    duplicate: bool


async def list_rejections(client: AsyncClient, parameters: RejectionList) -> RejectionPage:
    """Return a page of refused requests."""
    page = await client.rejections.page(
        flow_id=parameters.flow,
        reason=parameters.reason,
        page_size=parameters.page_size,
        page_token=parameters.page_token,
    )
    counts = tuple(
        RejectionCountView(each.flow_id, each.reason, each.count, each.first_at, each.last_at)
        for each in await client.rejections.count(flow_id=parameters.flow)
    )
    return RejectionPage(tuple(map(_view, page.items)), page.next_page_token, counts)


async def get_rejection(client: AsyncClient, parameters: RejectionId) -> RejectionDetail:
    """Return a refused request."""
    found = await client.rejections.get(parameters.rejection_id)
    body = found.body.decode("utf-8", "replace") if found.body else None
    return RejectionDetail(**shown_fields(_view(found)), headers=header_texts(found.headers), body=body)


async def read_rejection_body(client: AsyncClient, parameters: RejectionId) -> AsyncIterator[bytes]:
    """Return the stored body of a refused request, its first 64 KiB; empty: it is not stored."""
    found = await client.rejections.get(parameters.rejection_id)

    async def chunks() -> AsyncIterator[bytes]:
        yield found.body

    return chunks()


async def accept_rejection(client: AsyncClient, parameters: RejectionId) -> AcceptedView:
    """Verify a refused request again, under the present file and secrets of its flow, and accept it as an event."""
    accepted = await client.rejections.accept(parameters.rejection_id)
    return AcceptedView(parameters.rejection_id, accepted.event_id, accepted.execution_id, accepted.duplicate)


def _view(rejection: RejectedRequest) -> RejectionView:
    return RejectionView(
        id=rejection.id,
        flow_id=rejection.flow_id,
        callback=rejection.callback,
        refused_at=rejection.refused_at,
        status=rejection.status,
        reason=rejection.reason,
        detail=rejection.detail,
        diagnosis=rejection.diagnosis,
        address=rejection.address,
        method=rejection.method,
        path=rejection.path,
        query=rejection.query,
        body_size=rejection.body_size,
        suppressed=rejection.suppressed,
        acceptability=rejection.acceptability,
        accepted_event_id=rejection.accepted_event_id,
        accepted_execution_id="" if rejection.callback else rejection.accepted_event_id,
        accepted_by=rejection.accepted_by,
        accepted_at=rejection.accepted_at,
    )
