"""The operation that compares two executions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from flowhook.model.executions import Execution
from operations.comparison import MAX_COMPARED, ExecutionDiff, compare_executions
from operations.executions import ExecutionId
from operations.stored_bodies import read_with_beginning

if TYPE_CHECKING:
    from flowhook.client import AsyncClient
    from operations.tools import Tools


class DiffParameters(ExecutionId):
    """Parameters of `diff_executions`."""

    with_: Annotated[str, Field(alias="with")]
    """ID of the other execution."""


@dataclass(frozen=True, slots=True)
class ComparedExecutions:
    """Two executions and their difference."""

    first: Execution
    second: Execution
    diff: ExecutionDiff


async def diff_executions(client: AsyncClient, parameters: DiffParameters, tools: Tools) -> ComparedExecutions:
    """Compare two executions: requests, tasks and results."""
    async with tools.turn():  # a second of CPU time and 100 MiB
        (first, first_body), (second, second_body) = await asyncio.gather(
            read_with_beginning(client, parameters.execution_id, MAX_COMPARED),
            read_with_beginning(client, parameters.with_, MAX_COMPARED),
        )
        # pure Python code, which gives way to the event loop every 5 ms
        diff = await asyncio.to_thread(compare_executions, first, second, first_body, second_body)
    return ComparedExecutions(first.execution, second.execution, diff)
