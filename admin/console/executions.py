"""`/executions` and `/faults`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from admin.console.live import LiveStream
from admin.console.page import ConsolePage, FilterForm, query_of, read_live, read_rows
from flowhook.errors import InvalidError
from flowhook.model import Status
from operations.execution_list import (
    MAX_LOOKED_AT,
    ExecutionConditions,
    ExecutionList,
    ExecutionPage,
    ExecutionTotal,
    group_filter,
    pairs_of,
    to_pairs,
)
from operations.table import COUNT_EXECUTIONS, LIST_EXECUTIONS, LIST_FAULTS

ROWS: Final = 50  # executions on a page at most, live or not
# values of `since` that a click sets, and their names
PERIODS: Final = (("15m", "last 15 min"), ("1h", "last hour"), ("24h", "last day"))
# conditions in the order in which they are shown, and what precedes their values
LABELS: Final = {
    "flow": "flow",
    "status": "",
    "unresolved": "",
    "attribute": "",
    "since": "since",
    "until": "until",
    "error_type": "error",
    "error_task": "task",
    "error_status": "error status",
    "error_title": "error title",
    "min_attempts": "runner attempts ≥",
    "caused_by": "caused by",
    "jq": "jq",
}


@dataclass(frozen=True, slots=True)
class Chip:
    """A condition as text, and the query of the page without it."""

    text: str
    removed: str


def condition_pairs(filters: ExecutionList) -> list[tuple[str, str]]:
    return pairs_of({name: value for name in LABELS if (value := getattr(filters, name))})


def chips(filters: ExecutionList) -> list[Chip]:
    pairs = condition_pairs(filters)
    return [
        Chip(_text(name, value), urlencode(pairs[:place] + pairs[place + 1 :]))
        for place, (name, value) in enumerate(pairs)
    ]


def _text(name: str, value: str) -> str:
    if name == "unresolved":
        return name
    if name == "attribute":
        return " = ".join(value.split(":", 1))
    return f"{LABELS[name]} {value}".strip()


class ExecutionsPage(ConsolePage):
    """`/executions`: executions, newest first, with conditions in the URL; live on the first page."""

    filter_form = FilterForm("executions_form.html", "Executions", LIST_EXECUTIONS, {"statuses": list(Status)})
    error_fields: Mapping[str, str] = {"CONDITION_INVALID": "jq", "FILTER_INVALID": "", "PAGE_TOKEN_INVALID": ""}

    async def show(self, *_values: str) -> None:
        query = self.query()
        live = read_live(query)
        filters = read_rows(LIST_EXECUTIONS, query, ROWS)
        if any("" in values for values in query.values()):  # a form sends its empty fields, too; links are shared
            conditions = query_of(filters, page_token=filters.page_token, live="" if live else "off")
            self.see_other(f"/executions?{conditions}".rstrip("?"))
            return
        page, total = await asyncio.gather(self.perform(LIST_EXECUTIONS, filters), self._total(filters))
        first = not filters.page_token
        can_live = first and not filters.jq
        self.finish_page(
            "executions.html",
            page=page,
            total=total,
            filters=filters,
            chips=chips(filters),
            periods=[(name, query_of(filters, since=since), since) for since, name in PERIODS],
            statuses=list(Status),
            first=first,
            can_live=can_live,
            live=can_live and live,
            query=query_of(filters),
            older=query_of(filters, page_token=page.next_page_token),
            switched=query_of(filters, live="off" if live else "on"),
            **row_values(filters, page),
        )

    async def _total(self, filters: ExecutionList) -> ExecutionTotal | None:
        """Return how many executions meet the conditions; None if that is not known.

        Matches of a condition in jq are not counted; what is stored of executions under way may be older than shown.
        """
        if filters.jq or not all(status.ended or status is Status.SUSPENDED for status in filters.status):
            return None
        conditions = ExecutionConditions(**{name: getattr(filters, name) for name in ExecutionConditions.model_fields})
        total: ExecutionTotal = await self.perform(COUNT_EXECUTIONS, conditions)
        return total


class ExecutionStream(LiveStream):
    """`/executions/stream`."""

    operation, rows = LIST_EXECUTIONS, ROWS
    template = "execution_rows.html"

    def conditions(self) -> ExecutionList:
        filters: ExecutionList = super().conditions()
        if filters.jq:
            raise InvalidError("a list with a jq condition does not update by itself", reason="PARAMETER_INVALID")
        return filters

    def values_of(self, conditions: ExecutionList, result: ExecutionPage) -> dict[str, Any]:
        return {"page": result, **row_values(conditions, result)}


def row_values(filters: ExecutionList, page: ExecutionPage) -> dict[str, bool | str]:
    pairs = condition_pairs(filters)
    flow_only = filters.flow if len(pairs) == 1 and not filters.page_token else ""
    return {"filtered": bool(pairs), "flow_only": flow_only, "complete": not page.next_page_token}


class FaultsPage(ConsolePage):
    """`/faults`: failed executions that were neither replayed nor resolved, in groups."""

    filter_form = FilterForm("faults_form.html", "Faults", LIST_FAULTS)

    async def show(self, *_values: str) -> None:
        parameters = LIST_FAULTS.read_query({}, self.query())
        faults = await self.perform(LIST_FAULTS, parameters)
        groups = [(group, urlencode(to_pairs(group_filter(group)))) for group in faults.groups]
        self.finish_page("faults.html", faults=faults, groups=groups, filters=parameters, most=MAX_LOOKED_AT)
