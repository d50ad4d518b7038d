"""Comparisons of texts with numbers in the conditions of tasks, for traces: jq orders every text above every number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from flowhook.document.definition import value_at
from flowhook.expressions.data_flow import INPUT, Findings, Kind, Operation, Read, Value, read_program
from runner.interpreter.scope import ExpressionScope

_MAX_VALUES: Final = 1000  # values that one path leads to
_MAX_NOTES: Final = 10  # of one task
_CONDITIONS: Final = (("catch", "when"), ("catch", "exceptWhen"), ("catch", "retry", "when"))


def text_comparisons(task: Mapping[str, Any], scope: ExpressionScope) -> tuple[str, ...]:
    """Return a sentence for each comparison of a text with a number in the conditions of a task that has ended.

    A condition may not have been reached: the cases of a `switch` are all looked at. The sentences name paths, no data.
    """
    found = dict.fromkeys(
        f"{place}: `{text}` is a text, and is compared with a number: "
        + ("no text equals a number" if symbol in ("==", "!=") else "jq orders every text above every number")
        for place, condition, data in _conditions(task, scope)
        for symbol, text in _mixed(condition, data, scope)
    )
    return tuple(islice(found, _MAX_NOTES))


def _conditions(task: Mapping[str, Any], scope: ExpressionScope) -> Iterator[tuple[str, str, Any]]:
    """Yield the conditions of a task, each after its place, and with its input."""
    if isinstance(condition := task.get("if"), str):
        yield "if", condition, scope.raw
    if scope.skipped:
        return
    for item in task.get("switch") or ():
        for name, case in item.items():
            if isinstance(condition := case.get("when"), str):
                yield f"switch.{name}.when", condition, scope.input
    for path in _CONDITIONS:
        if isinstance(condition := value_at(task, path), str):
            yield ".".join(path), condition, scope.input


def _mixed(condition: str, data: Any, scope: ExpressionScope) -> Iterator[tuple[str, str]]:
    """Yield the operator of each comparison of a text with a number, with the path of the text."""
    for operation in _comparisons(condition):
        for side, other in ((operation.left, operation.right), (operation.right, operation.left)):
            if _has_number(other, data, scope):
                for read in side:
                    if isinstance(read, Read) and any(isinstance(each, str) for each in _values(read, data, scope)):
                        yield operation.symbol, read.text


@lru_cache(256)
def _comparisons(program: str) -> tuple[Operation, ...]:
    findings = Findings()
    read_program(program, INPUT, {}, findings)
    return tuple(each for each in findings.operations if each.compares)


def _has_number(value: Value, data: Any, scope: ExpressionScope) -> bool:
    found = [each for read in value if isinstance(read, Read) for each in _values(read, data, scope)]
    known = [each for each in found if each is not None]  # else it is what the expression says instead
    return any(type(each) in (int, float) for each in known) if known else Kind.NUMBER in value


def _values(read: Read, data: Any, scope: ExpressionScope) -> list[Any]:
    """Return the values that a path leads to; none through secrets, which have placeholders in traces."""
    if not read.root:
        values = [data]
    elif read.root == "secrets" or read.root not in scope:
        return []
    else:
        values = [scope[read.root]]
    for step in read.steps:
        values = list(islice(_below(values, step), _MAX_VALUES))
    return values


def _below(values: list[Any], step: str | int | None) -> Iterator[Any]:
    for value in values:
        if isinstance(value, dict) and isinstance(step, str):
            yield value.get(step)
        elif step is None and isinstance(value, dict | list):
            yield from value.values() if isinstance(value, dict) else value
        elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
            yield value[step]
