"""Prints the trace and the waits of `flowhook exec` on stderr while a flow runs; stdout is reserved for the output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import orjson

from cli.output import to_json

if TYPE_CHECKING:
    from runner.ipc import WaitStarted

MAX_WAITS: Final = 50  # maximum number of waits that are printed for one run; a loop may have any number
MAX_SHOWN: Final = 2000  # maximum number of characters of a value in text output; JSON output has the whole value
_VALUES: Final = ("input", "output", "context", "error")


def print_task(entry: bytes, *, json: bool) -> None:
    """Print one completed task: as a few lines for people, or as the unchanged JSON object for programs."""
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


class WaitPrinter:
    """Prints each wait as a line, or as JSON for programs; at most `MAX_WAITS` of them."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._printed = 0

    def __call__(self, waiting: WaitStarted) -> None:
        """Print one wait, unless `MAX_WAITS` were printed already."""
        self._printed += 1
        if self._printed > MAX_WAITS:
            return
        print(_as_json(waiting) if self._json else _as_text(waiting), file=sys.stderr, flush=True)
        if self._printed == MAX_WAITS and not self._json:
            print("further waits are not shown", file=sys.stderr, flush=True)


def _as_json(waiting: WaitStarted) -> str:
    shown: dict[str, Any] = {"task": waiting.task, "for": waiting.reason, "seconds": round(waiting.seconds, 3)}
    if waiting.types:
        shown["types"] = list(waiting.types)
    return orjson.dumps({"skipped" if waiting.skipped else "waiting": shown}).decode()


def _as_text(waiting: WaitStarted) -> str:
    does = "skipping" if waiting.skipped else "waiting"
    seconds = f"{waiting.seconds:.1f}".removesuffix(".0")
    if waiting.reason != "listen":
        return _printable(f"{does} {seconds} s: {waiting.reason} of {waiting.task}")
    types = f" for {' or '.join(waiting.types)}" if waiting.types else ""
    return _printable(f"{does} at most {seconds} s: {waiting.task} listens{types}")
