"""The operation that compares two executions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from admin.operations.executions import ExecutionId, ExecutionView, view
from admin.operations.stored_bodies import read_with_beginning
from flowhook.client import AsyncClient
from flowhook.comparison import MAX_COMPARED, ExecutionDiff, compare_executions
from flowhook.errors import ExhaustedError

MAX_RUNNING: Final = 2
"""Comparisons at a time: each may take a second of CPU time and 100 MiB."""


class DiffParameters(ExecutionId):
    """Parameters of `diff_executions`."""

    with_: Annotated[str, Field(alias="with")]
    """ID of the other execution."""


@dataclass(frozen=True, slots=True)
class ExecutionDiffView:
    """Two executions and their difference."""

    first: ExecutionView
    second: ExecutionView
    diff: ExecutionDiff


class _Running:
    """Counts the comparisons that are running in this process."""

    def __init__(self) -> None:
        self._count = 0

    def __enter__(self) -> None:
        if self._count >= MAX_RUNNING:
            raise ExhaustedError("others are comparing executions: try again", reason="TOO_MANY_COMPARISONS")
        self._count += 1

    def __exit__(self, *_error: object) -> None:
        self._count -= 1


_running: Final = _Running()


async def diff_executions(client: AsyncClient, parameters: DiffParameters) -> ExecutionDiffView:
    """Return the difference of two executions, of one flow or of two."""
    with _running:
        (first, first_body), (second, second_body) = await asyncio.gather(
            read_with_beginning(client, parameters.execution_id, MAX_COMPARED),
            read_with_beginning(client, parameters.with_, MAX_COMPARED),
        )
        # pure Python code, which gives way to the event loop every 5 ms
        diff = await asyncio.to_thread(compare_executions, first, second, first_body, second_body)
    return ExecutionDiffView(view(first.execution), view(second.execution), diff)
