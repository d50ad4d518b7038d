"""Reads the links of an execution: which executions caused it, and which it caused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from flowhook.model.executions import NO_LINKS, ExecutionLinks, LinkedExecution
from router.dispatch.observers.execution_records import ExecutionRecords
from router.storage.causes import StoredLink
from router.storage.interface import ShardState
from router.storage.limits import DEFAULT_PAGE
from router.storage.model import ExecutionRecord

MAX_CAUSED: Final = 20
"""Caused executions that are returned with an execution; `ListExecutions` has all."""


async def links_of(execution_id: str, *, state: ShardState, records: ExecutionRecords) -> ExecutionLinks:
    """Return the links of an execution, with the current state of those at their other ends.

    Raises:
        UnavailableError: storage can't serve.
    """
    found = await state.links(execution_id, limit=MAX_CAUSED + 1)
    ids = list({link.execution_id for link in (*found.causes, *found.caused)})
    if not ids:
        return NO_LINKS
    linked: dict[str, ExecutionRecord] = {}
    for first in range(0, len(ids), DEFAULT_PAGE):
        stored = await state.find_by_ids(ids[first : first + DEFAULT_PAGE])
        linked |= {record.id: record for record in await records.current(list(stored.values()))}
    return ExecutionLinks(
        _linked(found.causes, linked), _linked(found.caused[:MAX_CAUSED], linked), len(found.caused) > MAX_CAUSED
    )


def _linked(links: Sequence[StoredLink], records: Mapping[str, ExecutionRecord]) -> tuple[LinkedExecution, ...]:
    found = ((each, records.get(each.execution_id)) for each in links)
    return tuple(
        LinkedExecution(*each) if record is None else LinkedExecution(*each, record.flow_id, record.status)
        for each, record in found
    )
