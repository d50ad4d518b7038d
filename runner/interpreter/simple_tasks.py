"""Tasks that run no other task: `set`, `switch`, `raise`, `wait`.

Source: dsl-reference.md, "Set", "Switch", "Raise", "Wait", "Error".
"""

from __future__ import annotations

import re
from typing import Any, Final

from flowhook import limits
from flowhook.model import FailedResponse, WorkflowError
from runner.interpreter import json_codec
from runner.interpreter.errors import ExpressionFailed, Kind, TaskFault, error, shorten
from runner.interpreter.requests import Sleep, Steps
from runner.interpreter.retry_policy import is_true, milliseconds
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.state import BranchState
from runner.interpreter.task_nodes import RaiseNode, SetNode, SwitchNode, WaitNode

_STATUSES: Final = range(100, 600)
"""Statuses that an error may have."""

_URI: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$")


def set_data(node: SetNode, scope: ExpressionScope, data: Any) -> tuple[Any, str]:
    """Replace the data."""
    output = node.value(data, scope)
    json_codec.encode_result(output, "the task's output")
    return output, node.then


def switch(node: SwitchNode, scope: ExpressionScope, data: Any) -> tuple[Any, str]:
    """Choose the flow directive of the first case whose condition is true."""
    for case in node.cases:
        if case.when is None or is_true(case.when(data, scope)):
            return data, case.then
    return data, node.then


def raise_error(node: RaiseNode, scope: ExpressionScope, data: Any) -> tuple[Any, str]:
    """Raise the error that the task describes."""
    raise TaskFault(_raised(node, scope, data), raised_by=node.pointer)


def wait(node: WaitNode, state: BranchState, scope: ExpressionScope, data: Any, _progress: None) -> Steps:
    """Wait for a duration; returns the input."""
    yield Sleep(state.effect_key(node.pointer, ":wait"), milliseconds(node.duration, data, scope))
    return data


def _raised(node: RaiseNode, scope: ExpressionScope, data: Any) -> WorkflowError:
    """Return the error that a `raise` describes (dsl-reference.md, "Error")."""
    pointer, definition = node.pointer, node.value(data, scope)
    if node.whole and not _is_error(definition):
        raise ExpressionFailed("`raise.error` must yield an object with `type`, a URI, and `status`, from 100 to 599")
    kind = definition["type"] if node.kind is None else node.kind(data)
    if not isinstance(kind, str) or not _URI.match(kind):
        return error(Kind.EXPRESSION, "the `type` of the raised error must be a URI", instance=pointer)
    title, detail = (_as_text(definition.get(member)) for member in ("title", "detail"))
    if node.whole:
        pointer = _as_text(definition.get("instance")) or pointer
    response = _answered(definition.get("response")) if node.whole else None
    return WorkflowError(kind, int(definition["status"]), title, pointer, detail, response)


def _answered(value: Any) -> FailedResponse | None:
    """Return the response in a caught error, within the limits of a real one; None if there is no valid one."""
    try:
        answer = FailedResponse(**value)
    except TypeError:
        return None
    numbers, texts = (answer.status, answer.size), (answer.url, answer.body)
    if not (all(type(number) is int for number in numbers) and all(isinstance(text, str) for text in texts)):
        return None
    if answer.status not in _STATUSES or not 0 <= answer.size <= limits.MAX_RESULT_BYTES:
        return None
    return answer._replace(url=shorten(answer.url), body=shorten(answer.body, limits.MAX_ERROR_BODY_BYTES))


def _is_error(value: Any) -> bool:
    """Whether data has the members that every error has."""
    if not isinstance(value, dict) or isinstance(value.get("status"), bool):
        return False
    return value.get("status") in _STATUSES and isinstance(value.get("type"), str)


def _as_text(value: Any) -> str:
    """Return a member of an error as a text, shortened; JSON if it is of another type, empty if it is null."""
    return shorten(value if isinstance(value, str) else "" if value is None else json_codec.encode(value).decode())
