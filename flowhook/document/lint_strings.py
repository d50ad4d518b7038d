"""Lints strings that look like expressions but are not, and conditions that are always true.

In strict mode a string is an expression only if all of it is `${ … }`. Anything similar is a literal string.

Source: dsl.md, "Runtime Expressions"; dsl-reference.md, "URI Template".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from flowhook.document.codes import Code
from flowhook.document.problems import Path, Problem
from flowhook.expressions import is_expression, strip_markers

_LITERAL: Final = frozenset({"document", "schema", "metadata"})
"""Keys below which nothing is evaluated, so that strings there need no check."""

_DATA: Final = frozenset({"set", "with", "body"})
"""Keys whose values are data: keys inside them have no meaning in the DSL."""

_CONDITIONS: Final = frozenset({"if", "when", "exceptWhen", "while", "until"})
_BARE: Final = _CONDITIONS | {"in", "from", "as"}
"""Keys whose strings are expressions even without `${ }`."""

_PATHS: Final = ("execution", "search")
"""The mapping whose values are paths, written without `${ }`."""

_NAMED: Final = frozenset({"after", "before", "branches", "do", "extensions", "switch", "try"})
"""Keys of lists whose items are mappings with one key, the name of the item."""

_INSIDE: Final = re.compile(r"\$\{.*?\}", re.DOTALL)
_IN_CODE: Final = re.compile(r"\$\{\s*\.[^}]*\}")
"""In code, `${name}` is syntax of the language itself, unless the name begins with a dot."""

_WITHOUT: Final = re.compile(
    r"\.[A-Za-z_]\w*((\.|\[)\S*)?|\$(context|error|index|input|item|output|runtime|secrets|task|workflow)\b\S*|\{\{[^{}]*\}\}"
)
_INSIDE_VARIABLE: Final = re.compile(
    r"\$(?:context|error|input|item|output|runtime|secrets|task|workflow)(?:\.[A-Za-z_]\w*|\[[^\]]*\])+"
)
_OTHER_TEMPLATE: Final = re.compile(r"\{\{[^{}]*\}\}")
"""How Mustache, Handlebars, Jinja and n8n insert values."""
_REQUEST_VARIABLE: Final = re.compile(
    r"\$(?P<name>body|event|headers|json|method|path|payload|query|request)\b(?P<rest>(?:\.[A-Za-z_]\w*|\[[^\]]*\])*)"
)
"""How other tools call what came in. Here it is the input."""
_REQUEST_FIELDS: Final = {"json": ".body", "payload": ".body", "event": "", "request": ""}

_INTERPOLATION: Final = re.compile(r"\\\([.$][^()]*\)")
_IN_PROGRAM: Final = re.compile(r"\$\{\s*[.$\w][^}\"]*\}")
"""In a program that compiles, this can only occur inside a string."""

_STRING: Final = re.compile(r'"(?:\\.|[^"\\])*"|#[^\n]*', re.DOTALL)
_ASSIGNMENT: Final = re.compile(r"(?<![=!<>|+\-*/%])=(?!=)")
_VARIABLE: Final = re.compile(r"\{([^A-Za-z0-9_{}][^{}]*)\}")

_MAX_QUOTED: Final = 60


def string_warnings(definition: dict[str, Any]) -> Iterator[Problem]:
    """Yield warnings about the strings of a valid document."""
    for path, text, is_data in _texts(definition, (), is_data=False, is_named=False):
        if path[: len(_PATHS)] == _PATHS:
            continue
        key = path[-1] if path else ""
        if key in _BARE and not is_data:
            if key in _CONDITIONS and _ASSIGNMENT.search(_STRING.sub("", strip_markers(text))):
                cause = f"{_quoted(text)} is always true: `=` assigns; write `==` to compare"
                yield Problem(path, Code.ALWAYS_TRUE, cause)
            continue
        hint = _of_expression(text) if is_expression(text) else _of_text(path, text)
        if hint:
            yield Problem(path, Code.NOT_AN_EXPRESSION, hint)


def _of_expression(text: str) -> str:
    program = strip_markers(text)
    found = _IN_PROGRAM.search(program)
    if found is None:
        literals = (each[0] for each in _STRING.finditer(program) if each[0].startswith('"'))
        found = next(filter(None, (_INSIDE_VARIABLE.search(_INTERPOLATION.sub("", each)) for each in literals)), None)
        if found is not None:
            return f"{_quoted(found[0])} is not evaluated inside a string: write \\({found[0]})"
    advice = "is not evaluated inside an expression: write \\(.name) to insert a value into a string"
    return f"{_quoted(found[0])} {advice}" if found else ""


def _of_text(path: Path, text: str) -> str:
    code = path[-3:] in (("run", "shell", "command"), ("run", "script", "code"))
    stripped = text.strip()
    if found := (_IN_CODE if code else _INSIDE).search(text):
        whole = stripped == found[0]
        advice = "${ … } around all of it" if whole else '${ "… \\(.name) …" } to insert a value'
        return f"{_quoted(found[0])} is not evaluated: only a whole string is an expression; write {advice}"
    if code:
        return ""
    if stripped.startswith("${") and stripped != "${":
        return (
            f"{_quoted(stripped)} is not an expression: the closing `}}` is missing; after ` #`, YAML begins a comment"
        )
    if _WITHOUT.fullmatch(stripped):
        return f"{_quoted(stripped)} is a literal string; as an expression, write ${{ {stripped.strip('{} ')} }}"
    if found := _INTERPOLATION.search(text):
        return f'{_quoted(found[0])} has a meaning only inside expressions: write ${{ "… \\(.name) …" }}'
    if path[:2] != ("webhook", "auth") and (hint := _of_placeholder(text, stripped)):
        return hint
    if "://" in text and (found := _VARIABLE.search(text)):
        advice = f"is replaced by the property {found[1]!r} of the task's input, and not evaluated as an expression"
        return f"{_quoted(found[0])} {advice}"
    return ""


def _of_placeholder(text: str, stripped: str) -> str:
    """Return a hint about what other tools, or expressions, would replace by a value."""
    if found := _OTHER_TEMPLATE.search(text):
        return f'{_quoted(found[0])} is not evaluated, here is no such template: write ${{ "… \\(.name) …" }}'
    if found := _REQUEST_VARIABLE.search(text):
        field = _REQUEST_FIELDS.get(found["name"], f".{found['name']}") + found["rest"] or "."
        whole = f"${{ {field} }}" if stripped == found[0] else f'${{ "… \\({field}) …" }}'
        return f"{_quoted(found[0])} is no variable: the request is the input of the first task, so write {whole} there"
    if found := _INSIDE_VARIABLE.search(text):
        whole = f'${{ "… \\({found[0]}) …" }}'
        return f"{_quoted(found[0])} is not evaluated: only a whole string is an expression; write {whole}"
    return ""


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 1] + "…")


def _texts(value: Any, path: Path, *, is_data: bool, is_named: bool) -> Iterator[tuple[Path, str, bool]]:
    """Yield the strings that may be evaluated, their paths, and whether they are inside data."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in _LITERAL or is_named or is_data:
                inside = is_data or (key in _DATA and not is_named)
                yield from _texts(item, (*path, key), is_data=inside, is_named=False)
    elif isinstance(value, list):
        named = not is_data and bool(path) and path[-1] in _NAMED
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index), is_data=is_data, is_named=named)
    elif isinstance(value, str):
        yield path, value, is_data
