"""Formats and prints the output of commands: JSON lines for programs, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from typing import Any, Final

import orjson

from operations.encoding import to_json as results_to_json

_STATUSES: Final = {
    "green": ("completed", "ready", "created", "done"),
    "red": ("faulted", "failed"),
    "yellow": ("cancelled", "aborted"),
    "cyan": ("running", "updated"),
    "blue": ("waiting", "suspended", "paused"),
    "dim": ("unchanged",),
}
STYLES: Final = {status: style for style, statuses in _STATUSES.items() for status in statuses}
DEEP_FRAMES: Final = 4096  # stack depth that is needed to write the most deeply nested data


def to_json(value: Any, *, indent: bool = False) -> bytes:
    """Return data as JSON, on one line or (`indent`) on many.

    orjson writes data with up to 254 levels of nesting, but reads four times as many; for deeper data the standard
    library is used.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0)
    except orjson.JSONEncodeError:
        limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + DEEP_FRAMES)
    try:
        layout: dict[str, Any] = {"indent": 2} if indent else {"separators": (",", ":")}
        return json.dumps(value, ensure_ascii=False, **layout).encode()
    finally:
        sys.setrecursionlimit(limit)


def print_json(value: Any) -> None:
    is_result = is_dataclass(value) or isinstance(value, tuple)
    text = results_to_json(value) if is_result else to_json(value)
    # a result contains JSON as it was sent, with its line ends; texts have none unescaped
    sys.stdout.buffer.write(text.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
    sys.stdout.buffer.flush()


def print_result(result: Any, text: str, *, json: bool) -> None:
    print_json(result) if json else print(text)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows under a header, or `empty` when there are none. Cells are text, never markup."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(_text, row))
    if table.row_count:
        _print(table)
    else:
        print(empty)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        table.add_row(name, _text(value))
    _print(table)


def _print(table: Any) -> None:
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    # without a terminal, do not wrap lines, so that grep sees whole ones, and do not pad them
    console = Console(highlight=False, width=500)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def _text(value: object) -> Any:
    from rich.text import Text

    return Text(_cell(value), style=STYLES.get(str(value), ""))


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, str | int | float):
        return printable(str(value))
    return printable(to_json(value, indent=True).decode())


def printable(text: str) -> str:
    """Replace control characters: text of a sender must not control the terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
