"""Validates a document against its models, and explains the errors to its author.

pydantic finds the errors. This module converts their locations to paths of the file and their messages to causes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flowhook import limits
from flowhook.document import names, workflow
from flowhook.document.codes import Code
from flowhook.document.model_types import keys_of, required_keys, types_at
from flowhook.document.problems import Path, Problem, suggestion
from flowhook.document.unknown_keys import not_a_task, unknown_key
from flowhook.document.webhook import CALLBACK_NAME_PATTERN
from flowhook.expressions import is_expression

_NAMED_LISTS: Final = frozenset({"after", "before", "branches", "do", "extensions", "switch", "try"})
"""Keys of lists whose items are mappings with one key, the name of the item."""

_SECRET_NAME: Final = rf"^[A-Za-z0-9._-]{{1,{limits.MAX_SECRET_NAME_LENGTH}}}$"

_PATTERNS: Final = {
    names.NAME_PATTERN: "expected letters, digits and hyphens, at most 63, with no hyphen at either end",
    workflow.DSL_VERSION_PATTERN: "expected a version 1.0.x of the DSL, such as 1.0.3",
    names.SEMANTIC_VERSION_PATTERN: "expected a semantic version such as 1.0.0",
    names.VERSION_OR_LATEST_PATTERN: "expected a semantic version such as 1.0.0, or latest",
    CALLBACK_NAME_PATTERN: "a callback's name is part of its URL: expected letters, digits and, after the first "
    "character, any of . _ -, at most 63",
    _SECRET_NAME: "expected letters, digits, '-', '_' and '.', at most 127",
}

_LISTS: Final = {
    **dict.fromkeys(("after", "before", "branches", "do", "try"), "expected a list of tasks"),
    "extensions": "expected a list of extensions",
    **dict.fromkeys(("all", "any"), "expected a list of filters"),
    "switch": "expected a list of cases",
}

_TEXTS: Final = {
    "call": "expected the name of a function, such as http",
    "in": "expected a string, an expression that yields an array, such as .body.lines",
    "then": "expected the name of a task of this list, or one of continue, exit and end",
    **dict.fromkeys(("exceptWhen", "if", "when", "while"), "expected a string, an expression such as .body.total > 5"),
}
"""Causes for values that are not strings, by key, for keys whose purpose is known."""

_INTEGER: Final = re.compile(r"[-+]?[0-9]+")
_NUMBER: Final = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?")
_TRUTH: Final = re.compile(r"true|false", re.IGNORECASE)

_MAPPINGS: Final = frozenset({"model_type", "model_attributes_type"})

_Describe = Callable[[ErrorDetails, Path], str]

_CAUSES: Final[Mapping[str, tuple[Code, _Describe]]] = {
    "missing": (Code.KEY_MISSING, lambda _error, path: f"the key {path[-1]!r} is missing"),
    "string_type": (Code.VALUE_TYPE, lambda error, path: _text(error["input"], path)),
    "string_pattern_mismatch": (
        Code.VALUE_FORMAT,
        lambda error, _path: _PATTERNS.get(error["ctx"]["pattern"], f"does not match {error['ctx']['pattern']}"),
    ),
    "string_too_long": (
        Code.VALUE_RANGE,
        lambda error, _path: f"expected at most {error['ctx']['max_length']} characters",
    ),
    "string_too_short": (
        Code.VALUE_RANGE,
        lambda error, _path: f"expected at least {error['ctx']['min_length']} characters",
    ),
    "int_type": (Code.VALUE_TYPE, lambda error, _path: f"expected an integer{_unquoting(error['input'], _INTEGER)}"),
    "float_type": (Code.VALUE_TYPE, lambda error, _path: f"expected a number{_unquoting(error['input'], _NUMBER)}"),
    "bool_type": (Code.VALUE_TYPE, lambda error, _path: f"expected true or false{_unquoting(error['input'], _TRUTH)}"),
    "dict_type": (Code.VALUE_TYPE, lambda error, _path: f"expected a mapping{_hyphens(error['input'])}"),
    "tuple_type": (Code.VALUE_TYPE, lambda error, path: _list(error["input"], path)),
    "list_type": (Code.VALUE_TYPE, lambda error, path: _list(error["input"], path)),
    "too_short": (Code.VALUE_RANGE, lambda error, _path: f"expected at least {_items(error['ctx']['min_length'])}"),
    "too_long": (Code.VALUE_RANGE, lambda error, _path: f"expected at most {_items(error['ctx']['max_length'])}"),
    "greater_than": (Code.VALUE_RANGE, lambda error, _path: f"expected more than {error['ctx']['gt']}"),
    "greater_than_equal": (Code.VALUE_RANGE, lambda error, _path: f"expected at least {error['ctx']['ge']}"),
    "less_than": (Code.VALUE_RANGE, lambda error, _path: f"expected less than {error['ctx']['lt']}"),
    "less_than_equal": (Code.VALUE_RANGE, lambda error, _path: f"expected at most {error['ctx']['le']}"),
    "literal_error": (Code.VALUE_CHOICE, lambda error, _path: _choice(error["input"], error["ctx"]["expected"])),
}


def check_shape(
    model: type[BaseModel],
    data: Any,
    path: Path = (),
    *,
    siblings: Mapping[str, type[BaseModel]] = MappingProxyType({}),
    around: Collection[str] = (),
) -> Iterator[Problem]:
    """Yield the problems that prevent `data` from being a valid `model`.

    Args:
        model: the expected model.
        data: in plain JSON types.
        path: path of `data` in its document.
        siblings: further keys allowed beside the model's own, with their models, for suggestions.
        around: keys allowed beside the key of `data`, for suggestions.
    """
    try:
        model.model_validate(data)
    except ValidationError as failure:
        for error in failure.errors(include_url=False):
            if error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]:
                continue  # pydantic counts only the valid items
            place = _place(error["loc"], data, is_key=error["type"] == "extra_forbidden")
            code, cause = _cause(error, place, model, data, siblings=siblings, around=around)
            yield Problem((*path, *place), code, cause, at=_beginning(error))


def _beginning(error: ErrorDetails) -> Path:
    """Return the path at which a mistake begins.

    That is the key that names no kind of task, or the first member of a list in place of a mapping, or vice versa.
    """
    value, kind, text = error["input"], error["type"], error["msg"]
    if kind == "union_tag_not_found" and isinstance(value, dict):
        return not_a_task(value)[0]
    if isinstance(value, list) and value:
        wants_mapping = kind in _MAPPINGS or kind in ("dict_type", "union_tag_not_found")
        return (0,) if wants_mapping or text.startswith("expected a mapping") else ()
    if isinstance(value, dict) and value:
        wants_list = kind in ("list_type", "tuple_type")
        return (next(iter(value)),) if wants_list or text.startswith("expected a list") else ()
    return ()


def _place(loc: tuple[int | str, ...], data: Any, *, is_key: bool) -> Path:
    """Return the path of an error: without the tags of unions, with the names of tasks and cases.

    Args:
        loc: location as pydantic reports it.
        data: the validated data.
        is_key: whether the last step is a key of the file, even if it looks like a tag.
    """
    path: list[int | str] = []
    node = data
    for index, step in enumerate(loc):
        last = index == len(loc) - 1
        tag = isinstance(step, str) and step.startswith("<") and step.endswith(">")
        if (tag or (step == "[key]" and last)) and not (is_key and last):
            continue
        if isinstance(node, dict) and (step in node or last):
            node = node.get(step)
        elif isinstance(node, list) and isinstance(step, int) and step < len(node):
            node = node[step]
        elif not last:
            continue  # a branch of a union, named by its type
        path.append(step)
        named = isinstance(step, int) and path[-2:-1] and path[-2] in _NAMED_LISTS
        if named and not last and isinstance(node, dict) and len(node) == 1:
            name, node = next(iter(node.items()))
            path.append(name)
    return tuple(path)


def _cause(
    error: ErrorDetails,
    place: Path,
    model: type[BaseModel],
    data: Any,
    *,
    siblings: Mapping[str, type[BaseModel]],
    around: Collection[str],
) -> tuple[Code, str]:
    kind = error["type"]
    if kind == "extra_forbidden":
        parent = _at(data, place[:-1])
        loc = error["loc"][:-1]
        cause = unknown_key(
            str(place[-1]), error["input"], parent=parent, model=model, loc=loc, siblings=siblings, around=around
        )
        return Code.KEY_UNKNOWN, cause
    if kind == "union_tag_not_found":
        return Code.ITEM_INVALID, not_a_task(error["input"])[1] + _hyphens(error["input"])
    if kind in _MAPPINGS:
        return Code.VALUE_TYPE, f"expected a mapping{_with(types_at(model, error['loc']))}{_hyphens(error['input'])}"
    if kind in _CAUSES:
        code, describe = _CAUSES[kind]
        return code, describe(error, place)
    text = error["msg"]
    if kind in Code.__members__:
        return Code(kind), text  # raised by a validator of the models
    return Code.VALUE_TYPE, text[:1].lower() + text[1:] if text[1:2].islower() else text


def _items(count: int) -> str:
    return "one item" if count == 1 else f"{count} items"


def _key(path: Path) -> str:
    return str(path[-1]) if path else ""


def _text(value: object, path: Path) -> str:
    expected = _TEXTS.get(_key(path), "expected a string")
    quoting = isinstance(value, int | float) and expected.startswith("expected a string")
    return f"{expected}: put it in quotes" if quoting else expected


def _unquoting(value: object, pattern: re.Pattern[str]) -> str:
    if isinstance(value, str) and pattern.fullmatch(value):
        return ": leave out the quotes"
    return ", not an expression" if is_expression(value) else ""


def _hyphens(value: object) -> str:
    return ": leave out the hyphens" if isinstance(value, list) else ""


def _list(value: object, path: Path) -> str:
    expected = _LISTS.get(_key(path))
    if isinstance(value, dict) and value:
        return f"{expected or 'expected a list'}: each item begins with a hyphen, as in `- {next(iter(value))}`"
    if expected is None:
        return "expected a list: put it in brackets, [ ]" if isinstance(value, str | int | float) else "expected a list"
    return expected


def _choice(value: object, expected: str) -> str:
    hint = suggestion(value, re.findall("'([^']*)'", expected)) if isinstance(value, str) else ""
    return f"expected {expected}{hint}"


def _with(types: list[Any]) -> str:
    """Name the required keys of a mapping or, if none is required, the optional ones."""
    required, known = required_keys(types), sorted(keys_of(types))
    some = "" if required or len(known) == 1 else "some of "
    keys = [f"`{key}`" for key in required or known]
    return f" with {some}{' and '.join(filter(None, [', '.join(keys[:-1]), keys[-1]]))}" if keys else ""


def _at(data: Any, path: Path) -> Any:
    for step in path:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            return None
    return data
