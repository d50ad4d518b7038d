"""Operations on the log of refused requests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field

from admin.operations.executions import HeaderView, header_views
from admin.operations.operation import Parameters
from flowhook.client import AsyncClient
from flowhook.model import RejectedRequest


class RejectionList(Parameters):
    """Parameters of `list_rejections`."""

    flow: str = ""
    """ID of a flow; empty: any."""
    page_size: Annotated[int, Field(ge=1, le=1000)] = 50
    """Rejections on the page at most."""
    page_token: str = ""
    """`next_page_token` of the page before, for the same flow; empty: the newest rejections."""


class RejectionId(Parameters):
    """Parameters of `get_rejection`."""

    rejection_id: str
    """ID of the refused request."""


@dataclass(frozen=True, slots=True)
class RejectionView:
    """A refused request. `body_size` is -1 when it is not known."""

    id: str
    flow_id: str
    callback: str
    refused_at: datetime
    status: int
    reason: str
    detail: str
    address: str
    method: str
    path: str
    query: str
    body_size: int
    suppressed: int


@dataclass(frozen=True, slots=True)
class RejectionPage:
    """Refused requests, newest first, and the token of the next page; empty: there is none."""

    rejections: tuple[RejectionView, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class RejectionDetail:
    """A refused request with its header fields; the values of those that may be credentials are left out."""

    rejection: RejectionView
    headers: tuple[HeaderView, ...]
    has_body: bool


async def list_rejections(client: AsyncClient, parameters: RejectionList) -> RejectionPage:
    """Return a page of refused requests."""
    page = await client.rejections.page(
        flow_id=parameters.flow, page_size=parameters.page_size, page_token=parameters.page_token
    )
    return RejectionPage(tuple(map(_view, page.items)), page.next_page_token)


async def get_rejection(client: AsyncClient, parameters: RejectionId) -> RejectionDetail:
    """Return a refused request."""
    found = await client.rejections.get(parameters.rejection_id)
    return RejectionDetail(_view(found), header_views(found.headers), bool(found.body))


def _view(rejection: RejectedRequest) -> RejectionView:
    return RejectionView(
        id=rejection.id,
        flow_id=rejection.flow_id,
        callback=rejection.callback,
        refused_at=rejection.refused_at,
        status=rejection.status,
        reason=rejection.reason,
        detail=rejection.detail,
        address=rejection.address,
        method=rejection.method,
        path=rejection.path,
        query=rejection.query,
        body_size=rejection.body_size,
        suppressed=rejection.suppressed,
    )
