"""`flowhook diff`: compares two executions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import typer

from cli.execution_tables import Shown
from cli.operation_commands import command, showing
from cli.output import print_table, printable
from operations import table

COLUMNS = ("WHAT", "NAME", "FIRST", "SECOND")


def _print(found: Shown) -> None:
    print_table(COLUMNS, diff_rows(found["diff"]), empty="no differences")
    for name in ("body", "output"):
        if lines := found["diff"][name]["lines"]:
            print(f"\n{name}:", *map(printable, lines), sep="\n")


def diff_rows(found: Shown) -> Iterator[tuple[object, ...]]:
    yield from _fields("summary", found["summary"])
    if found["diverges_at"] is not None and found["diverges_at"] < len(found["tasks"]):
        pair = found["tasks"][found["diverges_at"]]
        yield ("task", f"run {pair['index'] + 1}, the first that differs", _task(pair["first"]), _task(pair["second"]))
    yield from _fields("error", found["error"])
    yield from _content("output", found["output"])
    for what, name in (("request", "request"), ("query", "query"), ("header", "headers")):
        yield from _fields(what, found[name])
    yield from _content("body", found["body"])


def _fields(what: str, differences: Iterable[Shown]) -> Iterator[tuple[object, ...]]:
    for each in differences:
        yield (what, each["name"], each["first"], each["second"])


def _content(what: str, found: Shown) -> Iterator[tuple[object, ...]]:
    if found["format"] == "equal":
        return
    for each in found["differences"]:
        yield (what, each["path"] or "/", each["first"], each["second"])
    if not found["differences"]:
        name = {"text": "text", "too_large": "too large to compare"}.get(found["format"], "")
        if found["offset"] is not None:
            name = f"from byte {found['offset']} on"
        sizes = f"{found['first_size']} bytes", f"{found['second_size']} bytes"
        yield (what, name or "written differently", *sizes)
    if found["cut"]:
        yield (what, "… and more", "", "")


def _task(side: Shown | None) -> str:
    return "" if side is None else f"{side['task']} {side['state']} {side['detail']}".rstrip()


def register(app: typer.Typer) -> None:
    text = "Compare two executions: their requests, their tasks, and their results."
    command(app, "diff", table.DIFF_EXECUTIONS, text, arguments={"execution_id": "A", "with_": "B"})(showing(_print))
