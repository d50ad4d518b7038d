"""Operations on the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowhook.model.audit import AuditEntry
from operations.encoding import to_json
from operations.operation import PageParameters, Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


class AuditConditions(Parameters):
    """Parameters of `export_audit`."""

    actor: str = ""
    """Name of a token; empty: any."""
    action: str = ""
    """A method, for example `FlowService/PauseFlow`; empty: any."""
    target: str = ""
    """Part of what it was about, for example the ID of a flow; empty: any."""


class AuditList(AuditConditions, PageParameters):
    """Parameters of `list_audit`."""


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Entries, newest first, and the token of the next page; empty on the last."""

    entries: tuple[AuditEntry, ...]
    next_page_token: str


async def list_audit(client: AsyncClient, parameters: AuditList) -> AuditPage:
    """List what was changed, by whom, newest first."""
    page = await client.audit.page(**parameters.model_dump())
    return AuditPage(tuple(page.items), page.next_page_token)


async def export_audit(client: AsyncClient, parameters: AuditConditions) -> AsyncIterator[bytes]:
    """Read the audit log as JSON objects, one a line, newest first."""
    return (to_json(entry) + b"\n" async for entry in client.audit.list(**parameters.model_dump()))
