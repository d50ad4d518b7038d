"""Operations on all requests that arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from flowhook.model.rejections import ReceivedRequest, RequestOutcome
from operations.operation import Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


class RequestList(Parameters):
    """Parameters of `list_requests`."""

    flow: str = ""
    """ID of a flow; empty: any."""
    outcome: RequestOutcome | None = None
    """What became of them; absent: anything."""
    page_size: Annotated[int, Field(ge=1, le=1000)] = 50
    """Requests on the page at most."""
    page_token: str = ""
    """`next_page_token` of the page before, for the same flow and outcome; empty: the newest requests."""


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
