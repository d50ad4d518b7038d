"""What `flowhook exec --trace` prints of each task, on stderr: stdout is the output's."""

from __future__ import annotations

import sys
from typing import Any, Final

import orjson

from cli.output import to_json

MAX_SHOWN: Final = 2000
"""Characters of one value that people are shown; programs get it whole."""

_VALUES: Final = ("input", "output", "context", "error")


def print_entry(entry: bytes, *, json: bool) -> None:
    """Print one task that has ended: for people a few lines, for programs the object as it is."""
    if json:
        sys.stderr.buffer.write(entry + b"\n")
        sys.stderr.buffer.flush()
        return
    print("\n".join(_lines(orjson.loads(entry))), file=sys.stderr, flush=True)


def _lines(entry: dict[str, Any]) -> list[str]:
    iteration = "".join(f"[{index}]" for index in entry.get("iteration", ()))
    lines = [f"{entry['task']}{iteration}  {entry['kind']}  {entry['status']}"]
    lines += [f"  {name:<8}{_shorten(entry[name])}" for name in _VALUES if name in entry]
    if entry.get("then", "continue") != "continue":
        lines.append(f"  {'then':<8}{entry['then']}")
    return [_printable(line) for line in lines]


def _shorten(value: Any) -> str:
    text = to_json(value).decode()
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters)"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
