"""Operations on flows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from pydantic import Field

from flowhook.model import Change, Flow
from operations.flow_setup import FlowSetup
from operations.operation import Parameters, shown_fields

if TYPE_CHECKING:
    from flowhook.client import AsyncClient
    from operations.tools import Tools

PageSize = Annotated[int, Field(ge=1, le=1000)]
Revision = Annotated[int, Field(ge=0, lt=2**63)]


class FlowName(Parameters):
    """Parameters of operations on one flow."""

    flow_id: str
    """ID of the flow."""


class FlowAtRevision(FlowName):
    """Parameters of operations on one revision of a flow."""

    revision: Revision = 0
    """Number of the revision; 0: the latest."""


class FlowDocument(Parameters):
    """Parameters of `apply_flow`."""

    document: str
    """The file: YAML, at most 256 KiB in UTF-8."""
    dry_run: bool = False
    """Only check and compare it."""


@dataclass(frozen=True, slots=True)
class FlowView:
    """A flow."""

    id: str
    revision: int
    paused: bool
    webhook: bool
    created_at: datetime
    updated_at: datetime
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class FlowDetail(FlowView):
    """A flow with the text of its file, and what the file says as JSON."""

    document: str
    definition: Any


@dataclass(frozen=True, slots=True)
class AppliedView:
    """A flow that was applied, what changed by that, and what its author should know."""

    flow: FlowView
    change: Change
    warnings: tuple[str, ...]
    """Those of `check_flow` have their lines."""


@dataclass(frozen=True, slots=True)
class DeletedFlow:
    """The flow that was deleted."""

    id: str


async def get_flow(client: AsyncClient, parameters: FlowAtRevision) -> FlowDetail:
    """Return a revision of a flow."""
    flow = await client.flows.get(parameters.flow_id, revision=parameters.revision)
    definition = orjson.Fragment(flow.definition) if flow.definition else None
    return FlowDetail(
        **shown_fields(view(flow)), document=flow.document.decode("utf-8", "replace"), definition=definition
    )


async def apply_flow(client: AsyncClient, parameters: FlowDocument) -> AppliedView:
    """Create or update a flow, or only check its file."""
    [applied] = await client.flows.apply((parameters.document.encode(),), dry_run=parameters.dry_run)
    return AppliedView(view(applied.flow), applied.change, applied.warnings)


async def delete_flow(client: AsyncClient, parameters: FlowName) -> DeletedFlow:
    """Delete a flow; executions that were accepted finish."""
    await client.flows.delete(parameters.flow_id)
    return DeletedFlow(parameters.flow_id)


async def pause_flow(client: AsyncClient, parameters: FlowName) -> FlowView:
    """Pause a flow and return it."""
    return view(await client.flows.pause(parameters.flow_id))


async def resume_flow(client: AsyncClient, parameters: FlowName) -> FlowView:
    """Resume a flow and return it."""
    return view(await client.flows.resume(parameters.flow_id))


def view(flow: Flow) -> FlowView:
    """Return what is shown of a flow in lists."""
    return FlowView(
        id=flow.id,
        revision=flow.revision,
        paused=flow.paused,
        webhook=flow.has_webhook,
        created_at=flow.created_at,
        updated_at=flow.updated_at,
        next_at=flow.next_at,
    )


async def get_flow_setup(client: AsyncClient, parameters: FlowName, tools: Tools) -> FlowSetup:
    """Return how the latest revision of a flow is reached."""
    from operations import flow_reach  # noqa: PLC0415 - it imports the models of `webhook`, 10 MiB

    flow = await client.flows.get(parameters.flow_id)
    times = {secret.name: secret.updated_at for secret in await client.secrets.list() if secret.updated_at}
    return flow_reach.describe(flow, await tools.edges.url(client) if flow.has_webhook else "", times)
