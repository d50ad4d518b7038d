"""Operations on flows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from flowhook.model import Flow
from flowhook.model.flows import AppliedFlow
from operations.encoding import shown_fields
from operations.flow_setup import FlowSetup
from operations.operation import Parameters

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
class FlowDetail(Flow):
    """A flow with the text of its file, and what the file says as JSON."""

    document: bytes
    definition: bytes


@dataclass(frozen=True, slots=True)
class DeletedFlow:
    """The flow that was deleted."""

    id: str


async def get_flow(client: AsyncClient, parameters: FlowAtRevision) -> FlowDetail:
    """Get a flow."""
    flow = await client.flows.get(parameters.flow_id, revision=parameters.revision)
    return FlowDetail(**shown_fields(FlowDetail, flow))


async def apply_flow(client: AsyncClient, parameters: FlowDocument) -> AppliedFlow:
    """Create a flow, or give it a new revision; or check its file."""
    [applied] = await client.flows.apply((parameters.document.encode(),), dry_run=parameters.dry_run)
    return applied


async def delete_flow(client: AsyncClient, parameters: FlowName) -> DeletedFlow:
    """Delete a flow: its URL answers 404; executions that were accepted finish."""
    await client.flows.delete(parameters.flow_id)
    return DeletedFlow(parameters.flow_id)


async def pause_flow(client: AsyncClient, parameters: FlowName) -> Flow:
    """Pause a flow: events are accepted and queued, and not run."""
    return await client.flows.pause(parameters.flow_id)


async def resume_flow(client: AsyncClient, parameters: FlowName) -> Flow:
    """Resume a flow: queued and new events are run."""
    return await client.flows.resume(parameters.flow_id)


async def get_flow_setup(client: AsyncClient, parameters: FlowName, tools: Tools) -> FlowSetup:
    """Get how a flow is reached: URLs, set-up steps of senders, secrets, limits and next times."""
    from operations import flow_reach  # noqa: PLC0415 - it imports the models of `webhook`, 10 MiB

    flow = await client.flows.get(parameters.flow_id)
    times = {secret.name: secret.updated_at for secret in await client.secrets.list() if secret.updated_at}
    return flow_reach.describe(flow, await tools.edges.url(client) if flow.has_webhook else "", times)
