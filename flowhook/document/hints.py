"""What a valid document says that its author hardly means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from flowhook.document.filters import awaited_types
from flowhook.document.loader import FlowDocument
from flowhook.document.problems import Path, key_of
from flowhook.document.walk import walk_everywhere
from flowhook.expressions import is_expression

_INSIDE: Final = re.compile(r"\$\{.*?\}", re.DOTALL)

_IN_CODE: Final = re.compile(r"\$\{\s*\.[^}]*\}")
"""`${name}` is the language's own there, but for names that begin with a dot."""

_LITERAL: Final = frozenset({"document", "schema", "metadata"})
"""Keys below which nothing is evaluated, so that a text there is never meant to be."""

_MAX_QUOTED: Final = 60


def warnings(document: FlowDocument) -> list[str]:
    """Return what to tell the author, each with the key it is about; empty as a rule.

    - `${ }` inside a longer text: in strict mode it is plain text, since only a whole text is an expression.
    - A callback that no `listen` task waits for: what comes for it is kept until it expires.
    - A script or a command: whether it is run is for the operator of the runners to say. A command made by an
      expression runs whatever is in the data.

    Source: dsl.md, "Runtime Expressions".
    """
    hints = (*_texts(document.definition), *_unheard(document), *_processes(document.definition))
    return [f"{key_of(path)}: {text}" for path, text in hints]


def _texts(definition: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    advice = 'is no expression, for only a whole text is: write ${ "… \\(.name) …" } to have a value in it'
    for path, found in _interpolations(definition, ()):
        yield path, f"{found!r} {advice}"


def _unheard(document: FlowDocument) -> Iterator[tuple[Path, str]]:
    callbacks = document.webhook.callbacks if document.webhook is not None else {}
    heard = awaited_types(document.definition) if callbacks else frozenset()
    for name in callbacks:
        if name not in heard:
            yield ("webhook", "callbacks", name), f"no `listen` task waits for events of type {name}"


def _processes(definition: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for placed in walk_everywhere(definition):
        run = placed.task["run"] if placed.kind == "run" else {}
        for key in ("script", "shell"):
            if key in run:
                yield (
                    (*placed.path, "run", key),
                    "it fails on runners that were not started with --allow-processes",
                )
        if is_expression(run.get("shell", {}).get("command")):
            advice = "the shell runs whatever is in the data: hand values over as `arguments`, `environment` or `stdin`"
            yield (*placed.path, "run", "shell", "command"), advice


def _interpolations(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in _LITERAL or path[-1:] in (("set",), ("with",), ("body",)):
                yield from _interpolations(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _interpolations(item, (*path, index))
    elif isinstance(value, str) and not is_expression(value) and (found := _pattern(path).search(value)):
        yield path, found[0] if len(found[0]) <= _MAX_QUOTED else found[0][: _MAX_QUOTED - 1] + "…"


def _pattern(path: Path) -> re.Pattern[str]:
    """Return what in a text looks like an expression that is none."""
    return _IN_CODE if path[-3:] in (("run", "shell", "command"), ("run", "script", "code")) else _INSIDE
