"""Fields of forms that choose how executions are replayed: such a form sends all of them, whether they apply or not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import orjson

from operations.operation import ParameterError

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
# all such fields, with what they contain in a form where nothing is chosen
DEFAULTS: Final[Mapping[str, str]] = {
    "revision": "pinned",
    "start": "auto",
    "task": "",
    "output": "",
    INPUT: "recorded",
    **dict.fromkeys(BODY_FIELDS, ""),
}
_INPUTS: Final = ("recorded", "edited")
# fields that only replays from a task have, and what each is for
_TASK_FIELDS: Final = {"task": "begin there", "output": "replay with it"}


def error_fields(start: str) -> dict[str, str]:
    return {**_ERROR_FIELDS, "BODY_INVALID": "output" if start == "task" else "body"}


def unused(given: Mapping[str, str]) -> set[str]:
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


def digest(fields: Mapping[str, str], latest: int = 0) -> str:
    """Return a digest of all that a form chooses, whether it applies or not.

    `latest`: the revision that would run now, if the form chooses the latest one and names it; else 0.
    """
    texts = [(fields.get(name) or default).replace("\r\n", "\n") for name, default in DEFAULTS.items()]
    return hashlib.sha256(orjson.dumps([latest, *texts])).hexdigest()


def ignored(shown: Mapping[str, str], untouched: Mapping[str, str] = DEFAULTS) -> list[str]:
    """Return sentences about what was entered, but does not apply to what is chosen.

    `untouched`: what the form contains before anything is entered.
    """
    entered = {name for name in untouched if shown[name] != untouched[name]}
    sentences = []
    if shown[INPUT] == "recorded" and not entered.isdisjoint(BODY_FIELDS):
        sentences.append("The input that you edited below is not used: choose “edited” to replay with it.")
    if shown["start"] != "task":
        sentences += [
            f"The {name} that you gave below is not used: choose “at this task” to {use}."
            for name, use in _TASK_FIELDS.items()
            if name in entered
        ]
    return sentences
