"""Operations on the numbers of flows: rates, errors, queues, and the state of their secrets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from flowhook.model.flows import Flow, FlowCondition, FlowStatistics, NamedSecret
from operations.encoding import shown_fields
from operations.flows import FlowName, PageSize
from operations.operation import Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient

RATE_MINUTES: Final = 5  # minutes over which a rate is averaged, the current one included


class FlowList(Parameters):
    """Parameters of `list_flows`."""

    name: Annotated[str, Field(max_length=127)] = ""
    """Only flows whose ID contains this."""
    state: FlowCondition | None = None
    """Only flows that are paused, that failed within the last hour, or that need a secret which is not set."""
    page_size: PageSize = 100
    """Flows on the page at most."""
    page_token: str = ""
    """`next_page_token` of the page before; empty: the first page."""


@dataclass(frozen=True, slots=True)
class FlowNumbers:
    """Numbers of a flow's executions.

    `accepted`, `completed` and `faulted` are those of each of the last 60 minutes, oldest first, the current one last;
    they are complete from `since` on. `per_minute`: events accepted per minute, of the last 5. `error_share`: share of
    those that faulted in the last hour among those that completed or faulted, in [0, 1]; null: none did.
    `oldest_pending_at`: when the pending execution that runs next was received; null: none is ready. `last_event_at`:
    when the latest stored execution was received.
    """

    since: datetime
    accepted: tuple[int, ...]
    completed: tuple[int, ...]
    faulted: tuple[int, ...]
    per_minute: float
    accepted_in_hour: int
    completed_in_hour: int
    faulted_in_hour: int
    error_share: float | None
    pending: int
    running: int
    waiting: int
    suspended: int
    oldest_pending_at: datetime | None
    last_event_at: datetime | None
    secrets: tuple[NamedSecret, ...]
    missing_secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFlow(Flow):
    """A flow with its numbers."""

    numbers: FlowNumbers


@dataclass(frozen=True, slots=True)
class FlowPage:
    """Flows by ascending ID, and the token of the next page; empty on the last.

    With `state` there may be fewer flows than asked for, although there is a next page.
    """

    flows: tuple[ListedFlow, ...]
    next_page_token: str


async def list_flows(client: AsyncClient, parameters: FlowList) -> FlowPage:
    """List flows by ID, with their numbers."""
    page = await client.flows.statistics_page(
        name_contains=parameters.name,
        condition=parameters.state,
        page_size=parameters.page_size,
        page_token=parameters.page_token,
    )
    return FlowPage(tuple(listed(item, page.since) for item in page.items), page.next_page_token)


async def get_flow_statistics(client: AsyncClient, parameters: FlowName) -> FlowNumbers:
    """Get the numbers of a flow: rates, errors, its queue, its secrets."""
    page = await client.flows.statistics(parameters.flow_id)
    return numbers(page.items[0], page.since)


def numbers(statistics: FlowStatistics, since: datetime) -> FlowNumbers:
    """Return what is shown of a flow's numbers."""
    completed, faulted = sum(statistics.completed), sum(statistics.faulted)
    return FlowNumbers(
        **shown_fields(FlowNumbers, statistics),
        since=since,
        per_minute=round(sum(statistics.accepted[-RATE_MINUTES:]) / RATE_MINUTES, 1),
        accepted_in_hour=sum(statistics.accepted),
        completed_in_hour=completed,
        faulted_in_hour=faulted,
        error_share=round(faulted / (completed + faulted), 4) if completed + faulted else None,
    )


def listed(statistics: FlowStatistics, since: datetime) -> ListedFlow:
    """Return what is shown of a flow in the list."""
    return ListedFlow(**shown_fields(ListedFlow, statistics.flow), numbers=numbers(statistics, since))
