"""Fields of forms that choose how executions are replayed: such a form sends all of them, whether they apply or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flowhook.errors import InvalidError

INPUT: Final = "input"
BODY_FIELDS: Final = ("body", "content_type")

_INPUTS: Final = ("recorded", "edited")
_TASK_FIELDS: Final = ("task", "output")


def unused(given: Mapping[str, str]) -> set[str]:
    """Return the names of the fields that are not parameters of the replay that a form means.

    Raises:
        InvalidError: `input` is neither of its values.
    """
    edited = given.get(INPUT, "recorded")
    if edited not in _INPUTS:
        raise InvalidError(f"{INPUT}: write {' or '.join(_INPUTS)}", reason="PARAMETER_INVALID")
    names = {name for name in ("output", "revision", "start", "task") if not given.get(name)}
    if edited == "recorded":
        names.update(BODY_FIELDS)
    if given.get("start") != "task":
        names.update(_TASK_FIELDS)
    return names | {INPUT}
