"""The operation that draws a flow."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from admin.operations.flows import FlowAtRevision
from flowhook.client import AsyncClient
from flowhook.diagram.svg import svg


@dataclass(frozen=True, slots=True)
class FlowPicture:
    """A picture of a revision of a flow: SVG, with the classes of `diagram.css`, and pointers in `data-task`."""

    revision: int
    svg: str


async def get_flow_picture(client: AsyncClient, parameters: FlowAtRevision) -> FlowPicture:
    """Draw a revision of a flow."""
    flow = await client.flows.get(parameters.flow_id, revision=parameters.revision)
    return FlowPicture(flow.revision, svg(orjson.loads(flow.definition), flow.id))
