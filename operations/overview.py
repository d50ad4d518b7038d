"""The overview: what all flows, or one, did over a period, beside the period before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowhook.model.overview import Overview, Period
from operations.operation import Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


class OverviewOf(Parameters):
    """Parameters of `get_overview`."""

    flow: str = ""
    """ID of a flow; empty: all flows together."""
    period: Period = Period.HOUR
    """The period up to now."""


async def get_overview(client: AsyncClient, parameters: OverviewOf) -> Overview:
    """Get what flows did over a period: throughput, faults, latency, queue, incidents, storage."""
    return await client.flows.overview(parameters.flow, period=parameters.period)
