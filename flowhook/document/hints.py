"""What a valid document says that its author hardly means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from flowhook.document.filters import awaited_types
from flowhook.document.loader import FlowDocument
from flowhook.document.problems import Path, key_of
from flowhook.expressions import is_expression

_INSIDE: Final = re.compile(r"\$\{.*?\}", re.DOTALL)

_LITERAL: Final = frozenset({"document", "schema", "metadata"})
"""Keys below which nothing is evaluated, so that a text there is never meant to be."""

_MAX_QUOTED: Final = 60


def warnings(document: FlowDocument) -> list[str]:
    """Return what to tell the author, each with the key it is about; empty as a rule.

    - `${ }` inside a longer text: in strict mode it is plain text, since only a whole text is an expression.
    - A callback that no `listen` task waits for: what comes for it is kept until it expires.

    Source: dsl.md, "Runtime Expressions".
    """
    return [f"{key_of(path)}: {text}" for path, text in (*_texts(document.definition), *_unheard(document))]


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


def _interpolations(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in _LITERAL or path[-1:] in (("set",), ("with",), ("body",)):
                yield from _interpolations(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _interpolations(item, (*path, index))
    elif isinstance(value, str) and not is_expression(value) and (found := _INSIDE.search(value)):
        yield path, found[0] if len(found[0]) <= _MAX_QUOTED else found[0][: _MAX_QUOTED - 1] + "…"
