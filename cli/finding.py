"""Conditions of `executions list`: options, and the search with a condition in jq."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated

import typer

from flowhook.errors import InvalidError, UnavailableError
from flowhook.model import Execution, Status
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.process.settings import CommonSettings, read_token

Search = Annotated[
    list[str] | None,
    typer.Option("--search", metavar="NAME=VALUE", help="Only those with this search attribute; may be repeated."),
]
Since = Annotated[
    str, typer.Option("--since", metavar="TIME", help="Received at this time or later: RFC 3339, or 15m, 1h, 7d ago.")
]
Until = Annotated[str, typer.Option("--until", metavar="TIME", help="Received before this time.")]
ErrorType = Annotated[
    str, typer.Option("--error", metavar="TYPE", help="Only those that faulted with this error, such as timeout.")
]
Task = Annotated[str, typer.Option("--task", metavar="POINTER", help="Only those that faulted at this task.")]
Attempts = Annotated[
    int, typer.Option("--attempts", metavar="N", min=0, help="Only those with at least N runner attempts.")
]
CausedBy = Annotated[
    str,
    typer.Option(
        "--caused-by", metavar="ID", help="Only those that this execution started, or that received its events."
    ),
]
Jq = Annotated[
    str,
    typer.Option("--jq", metavar="CONDITION", help="Only those whose input meets a condition in jq: .body.total > 100"),
]


def conditions(
    *,
    flow: str,
    statuses: Sequence[Status],
    unresolved: bool,
    search: Sequence[str],
    since: str,
    until: str,
    error: str,
    task: str,
    attempts: int,
    caused_by: str,
) -> ExecutionFilter:
    """Return the conditions that options name.

    Raises:
        typer.BadParameter: an option has no acceptable value.
    """
    now = datetime.now(UTC)
    return ExecutionFilter(
        flow_id=flow,
        statuses=tuple(statuses),
        unresolved=unresolved,
        receive_from_ms=_milliseconds("--since", since, now),
        receive_until_ms=_milliseconds("--until", until, now),
        error_type=error,
        error_task=task or None,
        min_attempts=attempts,
        attributes=tuple(map(_attribute, search)),
        caused_by=_execution_id("--caused-by", caused_by),
    )


def search_events(
    settings: CommonSettings, execution_filter: ExecutionFilter, program: str, limit: int
) -> list[Execution]:
    """Return executions whose input meets a condition in jq, newest first, at most `limit`.

    Prints on stderr how many were scanned.

    Raises:
        InvalidError: the condition is not acceptable.
        UnavailableError: the router can't be reached.
    """
    from cli.client_factory import owner_of
    from flowhook.client.router_errors import SHARD_MOVED

    try:
        return asyncio.run(_search(settings, execution_filter, program, limit))
    except UnavailableError as error:
        if error.reason != SHARD_MOVED:
            raise
        return asyncio.run(_search(owner_of(settings), execution_filter, program, limit))


async def _search(
    settings: CommonSettings, execution_filter: ExecutionFilter, program: str, limit: int
) -> list[Execution]:
    from flowhook.client import AsyncClient
    from operations.search.evaluator import ConditionEvaluator
    from operations.search.scan import search

    found: list[Execution] = []
    scanned = left_out = failures = 0
    token = failure = ""
    client = AsyncClient(
        settings.router,
        token=read_token(settings, "admin"),
        ca_file=settings.router_ca_file,
        cert_file=settings.client_cert_file,
        key_file=settings.client_key_file,
    )
    async with client, aclosing(ConditionEvaluator()) as evaluator:
        while True:
            result = await search(
                client.executions, evaluator, execution_filter, program, limit=limit - len(found), page_token=token
            )
            found += result.found
            scanned += result.scanned
            left_out += result.left_out
            failures += result.failures
            failure = failure or result.failure
            token = result.next_page_token
            if not token or len(found) >= limit:
                break
    note = f"{scanned} scanned"
    if left_out:
        note += f", {left_out} with large events not looked into"
    if failures:
        note += f"; the condition failed on {failures}, first with: {failure}"
    print(f"flowhook: {note}", file=sys.stderr)
    return found


def _milliseconds(option: str, text: str, now: datetime) -> int | None:
    from operations.search.times import parse_time

    if not text:
        return None
    try:
        return int(parse_time(text, now).timestamp() * 1000)
    except InvalidError as error:
        raise typer.BadParameter(f"{option}: {error.message}") from None


def _execution_id(option: str, text: str) -> str:
    from flowhook.events import ids

    if text:
        try:
            ids.decode(text)
        except InvalidError as error:
            raise typer.BadParameter(f"{option} {text[:100]}: {error.message}") from None
    return text


def _attribute(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise typer.BadParameter(f"--search {text}: write NAME=VALUE, such as order=4711")
    return name, value
