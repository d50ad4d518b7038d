"""`flowhook diff`: compares two executions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DataDir, Json, Router

if TYPE_CHECKING:
    from flowhook.client import Client
    from operations.comparison import ContentDiff, ExecutionDiff
    from operations.comparison.execution_diff import FieldDifference, TaskSide

COLUMNS = ("WHAT", "NAME", "FIRST", "SECOND")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("diff")(_diff)


def _diff(
    *,
    first: Annotated[str, typer.Argument(metavar="A", help="ID of an execution: evt_…")],
    second: Annotated[str, typer.Argument(metavar="B", help="ID of the other execution.")],
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Compare two executions: their requests, their tasks, and their results."""
    from cli.client_factory import open_client
    from cli.output import print_json, print_table, printable
    from operations.comparison import compare_executions

    with open_client(router, data_dir) as client:
        details = client.executions.get(first, max_body_bytes=0), client.executions.get(second, max_body_bytes=0)
        found = compare_executions(*details, _read(client, first), _read(client, second))
    if json:
        print_json({"first": first, "second": second, **asdict(found)})
        return
    print_table(COLUMNS, diff_rows(found), empty="no differences")
    for name, content in (("body", found.body), ("output", found.output)):
        if content.lines:
            print(f"\n{name}:", *map(printable, content.lines), sep="\n")


def _read(client: Client, execution_id: str) -> bytes:
    from operations.comparison import MAX_COMPARED

    body = bytearray()
    for chunk in client.executions.body(execution_id):
        body += chunk
        if len(body) > MAX_COMPARED:
            break
    return bytes(body)


def diff_rows(found: ExecutionDiff) -> Iterator[tuple[object, ...]]:
    """Yield differences as rows for `COLUMNS`."""
    yield from _fields("summary", found.summary)
    if found.diverges_at is not None and found.diverges_at < len(found.tasks):
        pair = found.tasks[found.diverges_at]
        yield ("task", f"run {pair.index + 1}, the first that differs", _task(pair.first), _task(pair.second))
    yield from _fields("error", found.error)
    yield from _content("output", found.output)
    yield from _fields("request", found.request)
    yield from _fields("query", found.query)
    yield from _fields("header", found.headers)
    yield from _content("body", found.body)


def _fields(what: str, differences: tuple[FieldDifference, ...]) -> Iterator[tuple[object, ...]]:
    for each in differences:
        yield (what, each.name, each.first, each.second)


def _content(what: str, found: ContentDiff) -> Iterator[tuple[object, ...]]:
    if found.format == "equal":
        return
    for each in found.differences:
        yield (what, each.path or "/", each.first, each.second)
    if not found.differences:
        name = {"text": "text", "too_large": "too large to compare"}.get(found.format, "")
        if found.offset is not None:
            name = f"from byte {found.offset} on"
        yield (what, name or "written differently", f"{found.first_size} bytes", f"{found.second_size} bytes")
    if found.cut:
        yield (what, "… and more", "", "")


def _task(side: TaskSide | None) -> str:
    return "" if side is None else f"{side.task} {side.state} {side.detail}".rstrip()
