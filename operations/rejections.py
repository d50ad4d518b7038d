"""Operations on the requests that arrived, and on the log of those that were refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowhook.model.events import Headers
from flowhook.model.rejections import (
    AcceptedRejection,
    ReceivedRequest,
    RejectedRequest,
    RejectionCount,
    RequestOutcome,
)
from operations.encoding import shown_fields
from operations.operation import PageParameters, Parameters, whole

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


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
