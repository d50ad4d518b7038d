"""Decides in a separate process whether a flow wants a request: any jq program, and any JSON Schema.

Either may take for ever. So both have some CPU time together; the kernel ends the process that takes more, and with it
nothing but the one decision.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from flowhook.errors import InvalidError
from flowhook.payloads.parsing import encode_json, parse

SECONDS: Final = 1.0  # CPU time of the filter and the schema of one request
QUICK_SECONDS: Final = 0.1  # the same in a process that flows share whose conditions are quick; then it is a slow one
SLOW_NICENESS: Final = 15  # nice value while a flow is served whose conditions take long: all else goes first
CACHE: Final = 256  # filters and schemas that a process keeps compiled
MAX_MESSAGE: Final = 500  # characters of what jq says about a filter that fails


class Verdict(NamedTuple):
    """What was decided about a request."""

    reason: str  # empty: it is wanted; `FILTERED`, `SCHEMA_VIOLATED`, `FILTER_FAILED`, or why the schema can't decide
    detail: str = ""  # for operators
    violations: tuple[tuple[str, str], ...] = ()  # JSON Pointers, and the rules of the schema that are violated there
    cpu_ns: int = 0  # CPU time that it took


class _Conditions:
    def __init__(self, program: str | None, schema: Any) -> None:
        # an edge, which imports this module, needs neither
        import jq  # noqa: PLC0415 - see above

        from flowhook.json.schemas import JsonSchema  # noqa: PLC0415 - see above

        # only whether the result is true leaves jq; the line end closes a comment
        self._program = None if program is None else jq.compile(f"first(({program}\n) | not | not)")
        self._schema = None if schema is None else JsonSchema(schema)

    def decide(self, text: str, value: Any) -> Verdict:
        if self._program is not None:
            try:
                wanted = next(iter(self._program.input_text(text)), False)
            except ValueError as error:
                return Verdict("FILTER_FAILED", str(error)[:MAX_MESSAGE])
            if not wanted:
                return Verdict("FILTERED")
        if self._schema is not None:
            try:
                found = self._schema.violations(value)
            except InvalidError as error:
                return Verdict(error.reason, error.message)
            if found:
                violations = tuple((each.pointer, each.rule) for each in found)
                return Verdict("SCHEMA_VIOLATED", "; ".join(map(str, found)), violations)
        return Verdict("")


def decide(conditions: bytes, view: bytes) -> Iterator[bytes]:
    """Yield the `Verdict` as JSON; `conditions` is JSON of the filter and the schema, and `view` of the value of `.`.

    A filter is a jq program that is valid, or null; a schema is its document, or null.
    """
    yield _decide(conditions, view.decode(), _value(view), QUICK_SECONDS)


def decide_slowly(conditions: bytes, view: bytes) -> Iterator[bytes]:
    """Do the same when there is nothing else to do, in a process that is for nothing else."""
    os.setpriority(os.PRIO_PROCESS, 0, SLOW_NICENESS)
    yield _decide(conditions, view.decode(), _value(view), SECONDS)


def decide_unparsed_slowly(conditions: bytes, kind: bytes, view: bytes, body: bytes) -> Iterator[bytes]:
    os.setpriority(os.PRIO_PROCESS, 0, SLOW_NICENESS)
    return decide_unparsed(conditions, kind, view, body)


def decide_unparsed(conditions: bytes, kind: bytes, view: bytes, body: bytes) -> Iterator[bytes]:
    """Yield the same for a `body` as received; `view` lacks it, and `kind` is as in `parse_large_body`.

    Raises InvalidError as `parse` does.
    """
    content_type, headers, limit = orjson.loads(kind)
    pairs = [(name, value.encode("latin-1")) for name, value in headers]
    value = {**orjson.loads(view), "body": parse(content_type, body, pairs, limit=limit).body}
    yield _decide(conditions, encode_json(value).decode(), value, SECONDS)


def _value(view: bytes) -> Any:
    try:
        return orjson.loads(view)
    except orjson.JSONDecodeError:  # its body has all the levels of nesting that orjson reads
        return json.loads(view)


def _decide(conditions: bytes, text: str, value: Any, seconds: float) -> bytes:
    began = time.process_time_ns()
    # sooner than the limit of the process, part of which is for parsing
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        verdict = _compiled(conditions).decide(text, value)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return orjson.dumps([*verdict[:-1], time.process_time_ns() - began])


@lru_cache(CACHE)
def _compiled(conditions: bytes) -> _Conditions:
    return _Conditions(*orjson.loads(conditions))
