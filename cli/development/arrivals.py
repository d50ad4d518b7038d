"""Prints what arrives: a line for each execution that ends or waits, and for each request that became none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from cli.execution_tables import duration, failure, seconds_between
from cli.operation_commands import shown
from cli.output import printable
from cli.supervisor.progress import print_progress
from flowhook.client import AsyncClient
from flowhook.errors import UnavailableError
from flowhook.model import Execution, Status
from flowhook.model.rejections import ReceivedRequest, RequestOutcome
from flowhook.retrying import PROCESS

LOOK_SECONDS: Final = 0.5  # between two looks at the requests, which edges report as often
PAGE: Final = 100  # newest requests at a look; of more than these in that time, some are not printed
_SHOWN: Final = frozenset({Status.COMPLETED, Status.FAULTED, Status.CANCELLED, Status.SUSPENDED, Status.WAITING})


async def print_arrivals(client: AsyncClient, on_watching: Callable[[], None]) -> None:
    """Print what arrives from now on, until cancelled; `on_watching` is called once no execution can be missed."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_print_executions(client, on_watching))
        group.create_task(_print_requests(client))


async def _print_executions(client: AsyncClient, on_watching: Callable[[], None]) -> None:
    pauses = PROCESS.pauses()
    while True:
        try:
            async for change in client.executions.watch():
                pauses = PROCESS.pauses()
                if change is None:
                    on_watching()
                    continue
                if change.missed:
                    print_progress(f"{change.missed} changes of executions are not shown: they came too fast")
                if change.execution.status in _SHOWN:
                    print_progress(execution_line(change.execution))
        except UnavailableError:  # the supervisor says that the router is gone
            pass
        await asyncio.sleep(next(pauses))


async def _print_requests(client: AsyncClient) -> None:
    printed: set[str] | None = None  # IDs in the log of rejections, of the newest page
    while True:
        try:
            page = await client.rejections.requests_page(page_size=PAGE)
        except UnavailableError:
            pass
        else:
            found = {each.rejection_id: each for each in reversed(page.items) if each.rejection_id}
            for each in () if printed is None else (each for id_, each in found.items() if id_ not in printed):
                print_progress(request_line(each))
            printed = set(found)
        await asyncio.sleep(LOOK_SECONDS)


def execution_line(execution: Execution) -> str:
    """Return time, flow, status, ID, duration, and the error or what is waited for."""
    told = shown(execution)
    took = duration(seconds_between(told["received_at"], told["ended_at"]))
    return _line(execution.received_at, told["flow"], told["status"], [told["id"], took, failure(told)])


def request_line(request: ReceivedRequest) -> str:
    """Return time, flow, outcome, status, and what is known of the cause."""
    flow = f"{request.flow_id}/{request.callback}" if request.callback else request.flow_id
    told = [str(request.status or ""), request.execution_id]
    if request.outcome is not RequestOutcome.DUPLICATE:
        told += [": ".join(dict.fromkeys(filter(None, (request.reason, request.detail))))]
    return _line(request.received_at, flow, request.outcome, told)


def _line(time: datetime, flow: str, outcome: str, rest: Iterable[str]) -> str:
    at = time.astimezone().strftime("%H:%M:%S")
    return printable("  ".join([at, flow, f"{outcome:<9}", *filter(None, rest)])).replace("\n", " ")
