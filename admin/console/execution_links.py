"""Prepares the links of an execution for its page: what caused it, and what it caused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import orjson

from flowhook.model import Status
from flowhook.model.executions import LinkedExecution, LinkKind
from operations.executions import ExecutionDetailView

MAX_CAUSES: Final = 20  # causes that a page shows, the newest ones; the API has all of them
# how another execution caused the one of the page
CAUSES: Final = {
    LinkKind.RUN: "its run task started this one",
    LinkKind.EVENT: "its event started this one",
    LinkKind.LISTEN: "this one received its event",
}
# how the execution of the page caused another
CAUSED: Final = {
    LinkKind.RUN: "started by a run task",
    LinkKind.EVENT: "started by an event of this one",
    LinkKind.LISTEN: "received an event of this one",
}
TAKEN_OVER: Final = "started by the execution that this one replays"
_STARTED: Final = re.compile(rb'\{"execution":"(evt_[0-9a-z]{1,40})"\}')  # result of a `run` task in the journal


class LinkRow(NamedTuple):
    """An execution at the other end of a link, as a row of a table."""

    execution_id: str  # its ID
    how: str  # how one caused the other, in words
    flow_id: str = ""  # its flow; empty: not known
    status: Status | None = None  # its status; None: not known
    key: str = ""  # key of the journal's entry of the task that started it; empty: none, or it is not stored
    is_gone: bool = False  # whether it is past retention or was deleted


def cause_rows(detail: ExecutionDetailView) -> list[LinkRow]:
    """Return the executions that caused one: those that started it first, then the newest ones."""
    causes = sorted(detail.links.causes, key=lambda each: each.kinds == (LinkKind.LISTEN,))
    return _rows(causes, CAUSES, {})


def caused_rows(detail: ExecutionDetailView) -> list[LinkRow]:
    """Return the newest executions that one caused.

    A replay also has those whose results it took over, as far as its journal has them.
    """
    links, keys = detail.links, _keys(detail)
    rows = _rows(links.caused, CAUSED, keys)
    if detail.replay is None or links.more_caused:
        return rows
    own = {row.execution_id for row in rows}
    return rows + [LinkRow(each, TAKEN_OVER, key=key) for each, key in keys.items() if each not in own]


def _rows(linked: Sequence[LinkedExecution], words: Mapping[LinkKind, str], keys: Mapping[str, str]) -> list[LinkRow]:
    return [
        LinkRow(
            execution_id=each.id,
            how=", ".join(words[kind] for kind in each.kinds),
            flow_id=each.flow_id,
            status=each.status,
            key=keys.get(each.id, ""),
            is_gone=not each.flow_id,
        )
        for each in linked
    ]


def _keys(detail: ExecutionDetailView) -> dict[str, str]:
    """Return the executions in results of `run` tasks, each with the key of its journal entry."""
    found = ((entry.key, _STARTED.fullmatch(orjson.dumps(entry.output))) for entry in detail.journal)
    return {match[1].decode(): key for key, match in found if match is not None}
