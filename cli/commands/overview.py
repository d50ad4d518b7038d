"""`flowhook overview`: shows what flows did over a period, beside the period before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import typer

from cli.execution_tables import duration
from cli.operation_commands import OperationCall, command
from cli.output import print_json, print_table
from operations import table

WIDTH: Final = 32  # characters for the steps of a period
BLOCKS: Final = "▁▂▃▄▅▆▇█"
COLUMNS: Final = ("", "NOW", "BEFORE", "OVER TIME")


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:,.1f} MiB" if value else "-"  # not known then


ROWS: Final[tuple[tuple[str, str, Callable[[float], str]], ...]] = (
    ("accepted", "accepted", _count),
    ("completed", "completed", _count),
    ("faulted", "faulted", _count),
    ("cancelled", "cancelled", _count),
    ("latency p50", "latency_p50", duration),
    ("latency p99", "latency_p99", duration),
    ("wait p99", "wait_p99", duration),
    ("pending", "pending", _count),
    ("oldest pending", "oldest_pending", duration),
    ("retrying", "retrying", _count),
    ("incidents", "incidents", _count),
    ("storage", "storage_bytes", _mebibytes),
)
"""Names, fields and how their values are shown."""


def blocks(values: Sequence[float | None]) -> str:
    """Return at most `WIDTH` blocks, each as high as the greatest of some numbers; a space where there is none."""
    several = -(-len(values) // WIDTH)
    heights = [max(filter(None, values[at : at + several]), default=0) for at in range(0, len(values), several)]
    most, last = max(heights, default=0), len(BLOCKS) - 1
    return "".join(BLOCKS[round(height * last / most)] if height else " " for height in heights)


def register(app: typer.Typer) -> None:
    command(
        app,
        "overview",
        table.GET_OVERVIEW,
        "Show what all flows, or one, did over a period: throughput, faults, latency, queue, incidents, storage.",
        arguments={"flow": "FLOW"},
    )(_show)


def _show(call: OperationCall) -> None:
    overview = call.perform()
    if call.json:
        print_json(overview)
        return
    rows = []
    for name, field, text in ROWS:
        values: list[Any] = [getattr(each, field) for each in (overview.total, overview.before)]
        if values[0] is not None or not field.startswith(("incidents", "storage")):
            shown = ("-" if value is None else text(value) for value in values)
            rows.append((name, *shown, blocks([getattr(point, field) for point in overview.points])))
    print_table(COLUMNS, rows, empty="")
