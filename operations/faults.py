"""Operations on faults: failed executions that were neither replayed nor resolved, grouped by similarity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from flowhook.model import Execution
from flowhook.model.execution_filter import ExecutionFilter
from operations.operation import Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient

MAX_LOOKED_AT: Final = 1000  # executions that are grouped: the newest ones


class FaultList(Parameters):
    """Parameters of `list_faults`."""

    flow: str = ""
    """ID of a flow; empty: any."""


@dataclass(frozen=True, slots=True)
class FaultGroup:
    """Executions of one flow that failed at the same task with the same error.

    `task` is a JSON Pointer. `detail` is that of the latest one, whose ID is `latest_id`.
    """

    flow_id: str
    task: str
    status: int
    title: str
    detail: str
    count: int
    first_at: datetime
    latest_at: datetime
    latest_id: str


@dataclass(frozen=True, slots=True)
class Faults:
    """Groups by the time of their latest execution, newest first. `complete`: whether all executions were looked at."""

    groups: tuple[FaultGroup, ...]
    looked_at: int
    complete: bool


async def list_faults(client: AsyncClient, parameters: FaultList) -> Faults:
    """Group the faulted executions that were neither replayed nor resolved."""
    page = await client.executions.page(flow_id=parameters.flow, unresolved=True, page_size=MAX_LOOKED_AT)
    return Faults(group_faults(page.items), len(page.items), not page.next_page_token)


def group_filter(group: FaultGroup) -> ExecutionFilter:
    """Return the filter that the executions of a group meet, and later ones that fail alike."""
    return ExecutionFilter(
        flow_id=group.flow_id,
        unresolved=True,
        error_task=group.task,
        error_status=group.status,
        error_title=group.title,
    )


def group_faults(executions: Iterable[Execution]) -> tuple[FaultGroup, ...]:
    """Group executions, given newest first, by flow, task, status and title of the error."""
    groups: dict[tuple[str, str, int, str], list[Execution]] = {}
    for execution in executions:
        if (error := execution.error) is not None:
            key = (execution.flow_id, error.instance, error.status, error.title)
            groups.setdefault(key, []).append(execution)
    return tuple(
        FaultGroup(
            *key,
            detail="" if members[0].error is None else members[0].error.detail,
            count=len(members),
            first_at=members[-1].received_at,
            latest_at=members[0].received_at,
            latest_id=members[0].id,
        )
        for key, members in groups.items()
    )
