"""Evaluates a jq condition on events; runs in a separate process.

`.` is the workflow's input, as in the first expression of the flow. An event meets the condition if one of the results
is neither false nor null. It does not if the program fails on it; such failures are counted. Where it can be seen what
the program reads, jq is given no more than that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import jq
import orjson

from flowhook.errors import InvalidError
from flowhook.events.workflow_input import workflow_input
from flowhook.expressions.jq_check import check_program
from flowhook.expressions.syntax import InvalidExpression, strip_markers
from flowhook.payloads.parsing import Selection, encode_json, select, selection_of
from flowhook.wire import convert

_TOKEN: Final = re.compile(
    r"""\s+
    |(?P<path>\.(?:[A-Za-z_]\w*|"[^"\\]*")(?:\.(?:[A-Za-z_]\w*|"[^"\\]*")|\.?\["[^"\\]*"\]|\?(?!//))*)
    |(?P<text>"[^"\\]*")
    |(?P<number>[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
    |(?P<word>[A-Za-z_]\w*)
    |(?P<open>[(\[{])
    |(?P<close>[)\]}])
    |(?P<pipe>\|(?!=))
    |(?P<operator>==|!=|<=|>=|<|>|//(?!=)|[-+*/%,](?!=)|\?(?!//))
    |(?P<other>[.;:])
    """,
    re.VERBOSE | re.ASCII,
)
_STEP: Final = re.compile(r'\.([A-Za-z_]\w*)|"([^"\\]*)"', re.ASCII)
_LITERALS: Final = frozenset({"and", "or", "true", "false", "null"})
_BINDING: Final = frozenset({"as", "def", "foreach", "import", "include", "label", "reduce"})


def read_paths(program: str) -> list[tuple[str, ...]] | None:
    """Return paths below which a program reads its input, each of member names; None: it may read anything.

    The values at these paths, and the types of those on the way, determine the program's results and errors. The
    program compiles, and is without `${ }`.

    Most of the time of a condition goes into jq's reading of its input, of which the condition needs little. A program
    is understood if all that precedes the first `|`, in each pair of parentheses, consists of paths, literals and
    operators: `.body.order == 1 and (.body.items | length) > 3`. What follows a `|` sees only the values before it, so
    that it may be anything that binds no variable. Of other programs it is not known what they read.

    Source: https://jqlang.org/manual/v1.8/
    """
    paths: list[tuple[str, ...]] = []
    piped = [False]  # of each open bracket, the outermost first: whether a `|` precedes
    position = 0
    while position < len(program):
        token = _TOKEN.match(program, position)
        if token is None:
            return None
        position = token.end()
        kind, text = token.lastgroup, token[0]
        if kind == "open":
            if text == "{" and not piped[-1]:
                return None  # `{name}` reads a member
            piped.append(piped[-1])
        elif kind == "close":
            piped.pop()
            if not piped:
                return None
        elif kind == "pipe":
            piped[-1] = True
        elif text in _BINDING or not (piped[-1] or _is_plain(kind, text)):
            return None
        elif kind == "path" and not piped[-1]:
            paths.append(tuple(name or quoted for name, quoted in _STEP.findall(text)))
    return paths


def _is_plain(kind: str | None, text: str) -> bool:
    """Whether a token reads nothing of the input, or is a path."""
    return kind in (None, "path", "text", "number", "operator") or (kind == "word" and text in _LITERALS)


HAS_WEBHOOK: Final = 1  # bit of an event's form: its flow has a `webhook`
RAW: Final = 2  # bit of an event's form: its flow takes bodies unparsed
MAX_FAILURE: Final = 200  # characters of the message of a failure

# The program is on lines of its own, so that a comment in it ends before the parenthesis.
_HEAD: Final = ". as [$number, $input] | try (if any($input | (\n"
_TAIL: Final = f"\n); .) then $number else empty end) catch [tostring[:{MAX_FAILURE}]]"


def evaluate(program: bytes, forms: bytes, *events: bytes) -> Iterator[bytes]:
    """Yield which events meet a condition, as JSON: `[indexes, number of failures, message of the first failure]`.

    Args:
        program: jq, with or without `${ }`.
        forms: one byte for each event: `HAS_WEBHOOK` and `RAW`.
        events: each a serialized `flowhook.v1.Event`, with its body.

    Raises:
        InvalidError: the program does not compile, or uses what expressions may not use (`CONDITION_INVALID`).
    """
    compiled, selection = _compiled(strip_markers(program.decode("utf-8", "surrogatepass")))
    inputs: list[bytes] = []
    failures: list[str] = []
    for number, (form, event) in enumerate(zip(forms, events, strict=True)):
        try:
            inputs.append(b"[%d,%b]" % (number, encode_json(select(_input(form, event), selection))))
        except (InvalidError, ValueError, RecursionError) as error:
            failures.append(str(error))
    found: list[int] = []
    for result in _results(compiled, inputs, failures):
        if isinstance(result, int):
            found.append(result)
        else:
            failures.append(result[0])
    yield orjson.dumps([found, len(failures), failures[0][:MAX_FAILURE] if failures else ""])


def _results(compiled: Any, inputs: list[bytes], failures: list[str]) -> list[Any]:
    """Return the results for all inputs; the failures of those that jq can't read are added to `failures`."""
    if not inputs:
        return []
    try:
        return list(compiled.input_text(b"\n".join(inputs).decode()))
    except ValueError:  # jq reads less deep nesting than others, and then nothing after that
        results: list[Any] = []
        for each in inputs:
            try:
                results += compiled.input_text(each.decode())
            except ValueError as error:
                failures.append(str(error))
        return results


def _input(form: int, event: bytes) -> Any:
    return workflow_input(convert.event_from_bytes(event), webhook=bool(form & HAS_WEBHOOK), raw=bool(form & RAW))


@lru_cache(maxsize=16)
def _compiled(source: str) -> tuple[Any, Selection]:
    try:
        check_program(source, ())
        compiled = jq.compile(f"{_HEAD}{source}{_TAIL}")
    except InvalidExpression as error:
        raise InvalidError(error.message, reason="CONDITION_INVALID") from None
    paths = read_paths(source)
    return compiled, None if paths is None else selection_of(paths)
