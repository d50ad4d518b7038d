"""Operations that find executions: by conditions of the router, by a jq condition on their events, and by error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, LiteralString

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from flowhook.errors import InvalidError
from flowhook.events import ids
from flowhook.limits import MAX_SEARCH_ATTRIBUTES
from flowhook.model import Execution, Status, to_datetime
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.executions import ExecutionCount
from operations.operation import PageParameters, Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient
    from operations.tools import Tools

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGO: Final = re.compile(r"([0-9]{1,6})([smhd])")


def parse_time(text: str, now: datetime) -> datetime:
    """Return the time that a text names: RFC 3339, in UTC if it has no offset; or how long before now: `15m`.

    Raises:
        InvalidError: it names none (`TIME_INVALID`).
    """
    try:
        if ago := _AGO.fullmatch(text):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidError(
            "write a time such as 2026-11-27T16:00Z, or 15m, 1h or 7d for ago", reason="TIME_INVALID"
        ) from None


MAX_DIGITS: Final = 18

# conditions that filters have as they are
_SAME: Final = ("unresolved", "error_type", "error_status", "error_title", "min_attempts", "caused_by")
NO_TASK: Final = "/"  # value of `error_task` for errors that no task raised: their JSON Pointer is empty


def _validated(kind: str, template: LiteralString, check: Callable[[str], object]) -> AfterValidator:
    """Return a validator by a function that raises InvalidError; empty texts pass."""

    def validate(text: str) -> str:
        try:
            if text:
                check(text)
        except InvalidError as error:
            raise PydanticCustomError(kind, template, {"message": error.message}) from None
        return text

    return AfterValidator(validate)


_Time = Annotated[str, _validated("time", "{message}", lambda text: parse_time(text, datetime.now(UTC)))]
_ExecutionId = Annotated[str, _validated("execution_id", "write the ID of an execution: {message}", ids.decode)]


def _attribute(text: str) -> str:
    name, colon, value = text.partition(":")
    if not (name and colon and value):
        raise PydanticCustomError("attribute", "write NAME:VALUE, such as order:4711")
    return text


class ExecutionConditions(Parameters):
    """Parameters of `count_executions`: conditions that must all hold."""

    flow: str = ""
    """ID of a flow; empty: any."""
    status: tuple[Status, ...] = ()
    """Any of these statuses; none: any."""
    unresolved: bool = False
    """Only faulted executions that were neither replayed nor resolved."""
    attribute: Annotated[
        tuple[Annotated[str, AfterValidator(_attribute)], ...], Field(max_length=MAX_SEARCH_ATTRIBUTES)
    ] = ()
    """Search attributes that they have, each as NAME:VALUE."""
    since: _Time = ""
    """Received at this time or later: RFC 3339, or how long ago, such as 15m, 1h, 7d; empty: any."""
    until: _Time = ""
    """Received before this time, written as for `since`; empty: any."""
    error_type: Annotated[str, Field(max_length=1000)] = ""
    """Type of the error that they ended with: its URI, or the last segment of it; empty: any."""
    error_task: Annotated[str, Field(max_length=1000)] = ""
    """JSON Pointer of the task that raised that error; `/`: no task did; empty: any."""
    error_status: Annotated[int, Field(ge=0, le=599)] = 0
    """Status of that error; 0: any."""
    error_title: Annotated[str, Field(max_length=1000)] = ""
    """Title of that error; empty: any."""
    min_attempts: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Attempts that they have at least; 0: any."""

    caused_by: _ExecutionId = ""
    """ID of the execution that started them, or whose events they received; empty: any."""

    def as_filter(self, now: datetime) -> ExecutionFilter:
        return ExecutionFilter(
            flow_id=self.flow,
            statuses=self.status,
            receive_from_ms=_milliseconds(self.since, now),
            receive_until_ms=_milliseconds(self.until, now),
            error_task="" if self.error_task == NO_TASK else self.error_task or None,
            attributes=tuple((name, value) for name, _, value in (each.partition(":") for each in self.attribute)),
            **{name: getattr(self, name) for name in _SAME},
        )


class ExecutionList(ExecutionConditions, PageParameters):
    """Parameters of `list_executions`."""

    jq: Annotated[str, Field(max_length=8192)] = ""
    """Condition in jq on the events, whose input is that of the flow: a page looks at as many as it can in 0.75 s."""


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """What a search with jq looked at for a page."""

    scanned: int  # executions that were looked at, for this page and for those before
    left_out: int  # how many of this page were not looked into, because their events are large
    failures: int  # on how many the condition failed; they do not meet it
    failure: str  # how it failed first; may be empty
    until: datetime | None  # when the last one that was looked at was received; null: there was none


@dataclass(frozen=True, slots=True)
class ExecutionPage:
    """Executions, newest first, and the token of the next page; empty on the last.

    It may be short, or empty, although there is a next one. `scan` is null unless there is a condition in jq.
    """

    executions: tuple[Execution, ...]
    next_page_token: str
    scan: SearchProgress | None = None


async def list_executions(client: AsyncClient, parameters: ExecutionList, tools: Tools) -> ExecutionPage:
    """List executions, newest first."""
    wanted = parameters.as_filter(datetime.now(UTC))
    if parameters.jq:
        return await _search(client, wanted, parameters, tools)
    page = await client.executions.page(where=wanted, page_size=parameters.page_size, page_token=parameters.page_token)
    return ExecutionPage(tuple(page.items), page.next_page_token)


async def count_executions(client: AsyncClient, parameters: ExecutionConditions) -> ExecutionCount:
    """Count executions, up to 10,000."""
    return await client.executions.count(parameters.as_filter(datetime.now(UTC)))


async def _search(
    client: AsyncClient, execution_filter: ExecutionFilter, parameters: ExecutionList, tools: Tools
) -> ExecutionPage:
    from operations.search import search  # noqa: PLC0415 - it imports what starts processes

    # the router's token, and the number of executions that were scanned before it
    page_token, _, earlier = parameters.page_token.partition("-")
    if parameters.page_token and not (earlier.isascii() and earlier.isdecimal() and len(earlier) < MAX_DIGITS):
        raise InvalidError("the page token is none of a search with jq", reason="PAGE_TOKEN_INVALID")
    result = await search(
        client.executions,
        tools.evaluator,
        execution_filter,
        parameters.jq,
        limit=parameters.page_size,
        page_token=page_token,
    )
    scanned = int(earlier or 0) + result.scanned
    until = None if result.last is None else result.last.received_at
    scan = SearchProgress(scanned, result.left_out, result.failures, result.failure, until)
    token = f"{result.next_page_token}-{scanned}" if result.next_page_token else ""
    return ExecutionPage(tuple(result.found), token, scan)


def _milliseconds(text: str, now: datetime) -> int | None:
    return int(parse_time(text, now).timestamp() * 1000) if text else None


def conditions_of(wanted: ExecutionFilter) -> dict[str, Any]:
    """Return a filter as parameters of `list_executions`, without those that are not given; times are absolute."""
    task = wanted.error_task
    given = {
        "flow": wanted.flow_id,
        "status": [status.value for status in wanted.statuses],
        "attribute": [f"{name}:{value}" for name, value in wanted.attributes],
        "since": _text(wanted.receive_from_ms),
        "until": _text(wanted.receive_until_ms),
        "error_task": "" if task is None else task or NO_TASK,
        **{name: getattr(wanted, name) for name in _SAME},
    }
    return {name: value for name, value in given.items() if value}


def to_pairs(wanted: ExecutionFilter) -> list[tuple[str, str]]:
    """Return a filter as names and values of parameters, as in a URL."""
    return pairs_of(conditions_of(wanted))


def pairs_of(conditions: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, "true" if value is True else str(value))
        for name, given in conditions.items()
        for value in (given if isinstance(given, list | tuple) else [given])
    ]


def _text(milliseconds: int | None) -> str:
    return "" if milliseconds is None else to_datetime(milliseconds).isoformat().replace("+00:00", "Z")


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
