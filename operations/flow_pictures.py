"""The operation that draws a flow."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from flowhook.model import Flow
from operations.flows import FlowAtRevision

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


@dataclass(frozen=True, slots=True)
class FlowPicture:
    """A picture of a revision of a flow: SVG, with the classes of `diagram.css`, and pointers in `data-task`."""

    revision: int
    svg: str


async def get_flow_picture(client: AsyncClient, parameters: FlowAtRevision) -> FlowPicture:
    """Draw a flow."""
    flow = await client.flows.get(parameters.flow_id, revision=parameters.revision)
    return FlowPicture(flow.revision, await draw(flow))


async def draw(flow: Flow) -> str:
    """Return the picture of a flow. In a thread, since that of a large flow takes a quarter of a second."""
    from operations.diagram.svg import svg  # noqa: PLC0415 - for those that draw

    return await asyncio.to_thread(svg, orjson.loads(flow.definition), flow.id)
