"""Error messages for unknown keys: where the key belongs, which key was meant, or which keys there are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from pydantic import BaseModel

from flowhook.document import calls, component_arguments
from flowhook.document.model_types import keys_of, place_below, types_at
from flowhook.document.problems import Path, suggestion
from flowhook.document.task_kinds import KINDS, kind_of
from flowhook.document.tasks import RETRIED, models_of_tasks

_MAX_LISTED: Final = 10
_LEVELS_ABOVE: Final = 2

_MEANT: Final[Mapping[str, tuple[str, ...]]] = {
    "args": ("arguments", "with"),
    "as": ("from",),
    "auth": ("authentication",),
    "case": ("when",),
    "cmd": ("command",),
    "code": ("status",),
    "condition": ("if", "when"),
    "data": ("body",),
    "each": ("item",),
    "env": ("environment",),
    "flow": ("do",),
    "from": ("as",),
    "goto": ("then",),
    "if": ("when",),
    "item": ("each",),
    "items": ("in",),
    "json": ("body",),
    "message": ("detail",),
    "next": ("then",),
    "of": ("in",),
    "params": ("query", "parameters"),
    "parameters": ("with",),
    "payload": ("body", "data"),
    "states": ("do",),
    "steps": ("do",),
    "tasks": ("do",),
    "transition": ("then",),
    "url": ("uri", "endpoint"),
    "when": ("if",),
}
"""Keys by their names in other tools and elsewhere in the DSL: the first one that is allowed is suggested."""

_KINDS_BY_OTHER_NAMES: Final = {
    **dict.fromkeys(("function", "grpc", "http", "openapi"), "call"),
    **dict.fromkeys(("publish", "send"), "emit"),
    **dict.fromkeys(("foreach", "loop", "while"), "for"),
    **dict.fromkeys(("branches", "parallel"), "fork"),
    **dict.fromkeys(("on", "receive"), "listen"),
    **dict.fromkeys(("error", "fail", "throw"), "raise"),
    **dict.fromkeys(("script", "shell", "subflow", "workflow"), "run"),
    **dict.fromkeys(("assign", "transform"), "set"),
    **dict.fromkeys(("choice", "cases", "when"), "switch"),
    **dict.fromkeys(("catch",), "try"),
    **dict.fromkeys(("delay", "pause", "sleep"), "wait"),
}
"""Kinds of tasks by their names in other tools."""


def unknown_key(
    key: str,
    value: object,
    *,
    parent: object,
    model: type[BaseModel],
    loc: tuple[int | str, ...],
    siblings: Mapping[str, type[BaseModel]],
    around: Collection[str],
) -> str:
    """Return the error message for a key that is unknown at its location.

    Args:
        key: as written.
        value: value of the key.
        parent: the mapping that contains the key.
        model: model of all the validated data.
        loc: location of the parent, as pydantic reports it.
        siblings: models of further keys allowed at the top of the data.
        around: keys allowed beside the key of the data.
    """
    types, siblings = types_at(model, loc), {} if loc else siblings
    known = keys_of(types).union(siblings)
    kind = kind_of(parent) if loc else None
    if kind is not None and kind not in known:
        kind = None
    if kind is not None and key in KINDS:
        return f"a task has one kind, and this one is a {kind!r} task already: make another task of it"
    hint = (
        _below(key, types, parent if kind == "call" else None, siblings)
        or _meant(key, known)
        or _above(key, model, loc, around)
        or (_of_another_kind(key, kind) if kind is not None else "")
        or suggestion(key, sorted(known))
    )
    if not hint and not loc and kind_of(value) is not None:
        hint = f": a task belongs in the list `do`: write `- {key}:` there, and indent its content further"
    if not hint and 0 < len(known) <= _MAX_LISTED:
        hint = f"; allowed here: {', '.join(sorted(known))}"
    return f"unknown key {key!r}{hint}"


def not_a_task(value: object) -> tuple[Path, str]:
    """Return where in a value that is not a task of any kind the mistake is, and the error message."""
    for key in value if isinstance(value, dict) else ():
        kind = _KINDS_BY_OTHER_NAMES.get(key.lower())
        if key in calls.ARGUMENTS:
            return (key,), f"unknown key {key!r}: write `call: {key}`, and its arguments below `with`"
        if kind is not None:
            return (key,), f"unknown key {key!r}, did you mean {kind!r}?"
        hint = suggestion(key, KINDS)
        if hint:
            return (key,), f"unknown key {key!r}{hint}"
    return (), f"expected a task: a mapping with one of {', '.join(KINDS)}"


def _above(key: str, model: type[BaseModel], loc: tuple[int | str, ...], around: Collection[str]) -> str:
    """Return a hint that a key belongs on a higher level; empty if it does not."""
    if not loc and key in around:
        return ": it belongs beside `with`, not inside it"
    passed = 0
    for end in range(len(loc) - 1, -1, -1):
        step = loc[end]
        if isinstance(step, str) and not step.startswith("<"):
            passed += 1
            if step != key and key in keys_of(types_at(model, loc[:end])):
                return f": it belongs beside `{step}`, not inside it"
        if passed == _LEVELS_ABOVE or (isinstance(step, str) and step[1:-1] in KINDS and step.startswith("<")):
            break
    return ""


def _below(key: str, types: list[Any], call: object, siblings: Mapping[str, type[BaseModel]]) -> str:
    """Return a hint that a key belongs on a lower level; empty if it does not."""
    function = call.get("call") if isinstance(call, dict) else None
    arguments = calls.ARGUMENTS.get(str(function)) or component_arguments.ARGUMENTS.get(str(function))
    for name, model in {**siblings, **({"with": arguments} if arguments else {})}.items():
        path = () if key in keys_of([model]) else place_below([model], key)
        if path or key in keys_of([model]):
            return f": it belongs below `{'.'.join((name, *path))}`"
    path = place_below(types, key)
    return f": it belongs below `{'.'.join(path)}`" if path else ""


def _of_another_kind(key: str, kind: str) -> str:
    """Return a hint that a key belongs to another kind of task; empty if it does not."""
    if key == "foreach":
        return ": it belongs to `listen`; a `for` task iterates over an array"
    if key == "retry" and kind in RETRIED:
        return ": it belongs below `metadata`, or below the `catch` of a `try`"
    for other, model in models_of_tasks().items():
        if key in keys_of([model]):
            return f": it belongs to tasks with `{other}`"
    return ""


def _meant(key: str, known: Collection[str]) -> str:
    meant = next((other for other in _MEANT.get(key.lower(), ()) if other in known), None)
    return f", did you mean {meant!r}?" if meant else ""
