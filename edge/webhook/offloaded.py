"""Work of an edge in sandboxed processes: parses large bodies, and evaluates the filters and schemas of flows.

Whatever a body contains, the edge gets its keys and at most `MAX_SELECTED_BYTES` of it back, so that its own work is
bounded. A decision is by any jq program, and any JSON Schema, and either may take for ever. So both have some CPU time
together; the kernel ends the process that takes more, and with it nothing but the one decision.
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

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.events.keys import DedupeKey, KeyExpressions
from flowhook.payloads.field_types import form_with_types
from flowhook.payloads.parsing import encode_json, parse, select

# JSON of the parts of a body that responses, handshakes and delivery IDs read; if it is larger, they read nothing.
MAX_SELECTED_BYTES: Final = 64 * limits.KIB
QUICK, STEADY, SLOW = b"quick", b"steady", b"slow"  # paces of decisions
SECONDS: Final = 1.0  # CPU time of the filter and the schema of one request
QUICK_SECONDS: Final = 0.1  # the same in a process that flows share whose conditions are quick; then it is a slow one
SLOW_NICENESS: Final = 15  # nice value while a flow is served whose conditions take long: all else goes first
CACHE: Final = 256  # filters and schemas that a process keeps compiled
MAX_MESSAGE: Final = 500  # characters of what jq says about a filter that fails


def parse_large_body(kind: bytes, wanted: bytes, view: bytes, body: bytes) -> Iterator[bytes]:
    """Parse a `body` as received; yield its selected part, the text of its dedupe key, and its keys (`EventKeys.pack`).

    `wanted` is a JSON array: the `Selection` of the body to return, the expression of the dedupe key, or null, and the
    expressions of keys (`KeyExpressions`). `view` is JSON of the value of `.` without the body; for `kind` see
    `_parsed`. Raises InvalidError as `parse` does.
    """
    selection, dedupe, order_by, search, shaping = orjson.loads(wanted)
    content = _parsed(kind, body)
    selected = encode_json(select(content, selection))
    yield selected if len(selected) <= MAX_SELECTED_BYTES else b"null"
    seen: dict[str, Any] = {**orjson.loads(view), "body": content}
    yield b"" if dedupe is None else DedupeKey(dedupe).of_view(seen).encode("utf-8", "replace")
    yield from KeyExpressions(order_by, search, shaping=shaping).of_view(seen).pack()


def _parsed(kind: bytes, body: bytes) -> Any:
    """Return the content of a body as received.

    `kind` is a JSON array of the Content-Type, the headers that describe the body (pairs of strings in ISO 8859-1), the
    maximum size in bytes of the decompressed body, and the types of fields of forms.
    """
    content_type, headers, limit, fields = orjson.loads(kind)
    pairs = [(name, value.encode("latin-1")) for name, value in headers]
    return form_with_types(content_type, parse(content_type, body, pairs, limit=limit).body, fields)


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


def decide(pace: bytes, conditions: bytes, view: bytes, kind: bytes = b"", body: bytes = b"") -> Iterator[bytes]:
    """Yield the `Verdict` as JSON; `conditions` is JSON of the filter and the schema, and `view` of the value of `.`.

    A filter is a jq program that is valid, or null; a schema is its document, or null. The process ends if they take
    more CPU time than is allowed at this `pace` (`QUICK`, `STEADY` or `SLOW`). With a `kind`, for which see `_parsed`,
    the view lacks the body, which is still as it was received; then InvalidError is raised as from `parse`.
    """
    if pace == SLOW:  # there is nothing else to do, in a process that is for nothing else
        os.setpriority(os.PRIO_PROCESS, 0, SLOW_NICENESS)
    if kind:
        value = {**orjson.loads(view), "body": _parsed(kind, body)}
        view = encode_json(value)
    else:
        value = _value(view)
    began = time.process_time_ns()
    # sooner than the limit of the process, part of which is for parsing
    signal.setitimer(signal.ITIMER_PROF, QUICK_SECONDS if pace == QUICK else SECONDS)
    try:
        verdict = _compiled(conditions).decide(view.decode(), value)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    yield orjson.dumps([*verdict[:-1], time.process_time_ns() - began])


def _value(view: bytes) -> Any:
    try:
        return orjson.loads(view)
    except orjson.JSONDecodeError:  # its body has all the levels of nesting that orjson reads
        return json.loads(view)


@lru_cache(CACHE)
def _compiled(conditions: bytes) -> _Conditions:
    return _Conditions(*orjson.loads(conditions))
