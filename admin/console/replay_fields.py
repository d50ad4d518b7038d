"""Fields of forms that choose how executions are replayed: such a form sends all of them, whether they apply or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from admin.operations.operation import ParameterError

INPUT: Final = "input"

_ERROR_FIELDS: Final[Mapping[str, str]] = {
    "BODY_TOO_LARGE": "body",
    "CONTENT_TYPE_INVALID": "content_type",
    "EDIT_NOT_FROM_BEGINNING": INPUT,
    "OUTPUT_TOO_LARGE": "output",
    "TASK_NOT_FOUND": "task",
    "TASK_REQUIRED": "task",
    "TASK_WITHOUT_START": "task",
}

BODY_FIELDS: Final = ("body", "content_type")

_INPUTS: Final = ("recorded", "edited")
_TASK_FIELDS: Final = ("task", "output")


def error_fields(start: str) -> dict[str, str]:
    """Return the fields that errors are about, of a replay from this `start`; see `Page.error_fields`."""
    return {**_ERROR_FIELDS, "BODY_INVALID": "output" if start == "task" else "body"}


def unused(given: Mapping[str, str]) -> set[str]:
    """Return the names of the fields that are not parameters of the replay that a form means.

    Raises:
        ParameterError: `input` is neither of its values.
    """
    edited = given.get(INPUT, "recorded")
    if edited not in _INPUTS:
        text = f"write {' or '.join(_INPUTS)}"
        raise ParameterError(f"{INPUT}: {text}", {INPUT: text})
    names = {name for name in ("output", "revision", "start", "task") if not given.get(name)}
    if edited == "recorded":
        names.update(BODY_FIELDS)
    if given.get("start") != "task":
        names.update(_TASK_FIELDS)
    return names | {INPUT}
