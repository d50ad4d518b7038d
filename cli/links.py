"""Formats the links of an execution: what caused it, and what it caused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from flowhook.model.executions import ExecutionLinks, LinkedExecution


def links_as_json(links: ExecutionLinks) -> dict[str, Any]:
    """Return links as JSON values; an execution that is not stored any more has neither flow nor status."""
    return {
        "causes": [_linked_as_json(each) for each in links.causes],
        "caused": [_linked_as_json(each) for each in links.caused],
        "more_caused": links.more_caused,
    }


def link_rows(links: ExecutionLinks) -> Iterator[tuple[str, str]]:
    """Yield the links that there are as names and values, for people."""
    if links.causes:
        yield "causes", _text(links.causes)
    if links.caused:
        yield "caused", _text(links.caused) + (", ..." if links.more_caused else "")


def _linked_as_json(linked: LinkedExecution) -> dict[str, Any]:
    return {
        "id": linked.id,
        "kinds": [str(kind) for kind in linked.kinds],
        "flow": linked.flow_id or None,
        "status": None if linked.status is None else str(linked.status),
    }


def _text(linked: Iterable[LinkedExecution]) -> str:
    return ", ".join(f"{each.id} ({' and '.join(each.kinds)})" for each in linked)
