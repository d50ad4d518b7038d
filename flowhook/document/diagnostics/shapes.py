"""Validates a document against its models, and explains the errors to its author.

pydantic finds the errors. This module converts their locations to paths of the file and their messages to causes; for
an unknown key it says where the key belongs, which key was meant, or which keys there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, UnionType
from typing import Any, Final, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from flowhook import limits
from flowhook.document import definition
from flowhook.document.definition import KINDS, NAMED_LISTS, kind_of, value_at
from flowhook.document.diagnostics.problems import Code, Path, Problem, suggestion
from flowhook.document.models import calls, workflow
from flowhook.document.models.auth import KINDS as AUTH_KINDS
from flowhook.document.models.credentials import AuthKind
from flowhook.document.models.tasks import RETRIED, models_of_tasks
from flowhook.document.models.webhook import CALLBACK_NAME_PATTERN
from flowhook.expressions.syntax import is_expression

MAX_DEPTH: Final = 3  # levels below a location in which a key is searched


def types_at(model: type[BaseModel], loc: Iterable[int | str]) -> list[Any]:
    types: list[Any] = [model]
    for step in loc:
        types = [member for annotation in types for member in _members(annotation, step)]
    return types


def keys_of(types: Iterable[Any]) -> set[str]:
    return {key for model in _models(types) for key, _ in _fields(model)}


def _required_keys(types: Iterable[Any]) -> list[str]:
    models = list(_models(types))
    if len(models) != 1:
        return []
    try:
        models[0].model_validate({})  # not read from its fields, because some models fill in defaults themselves
    except ValidationError as failure:
        errors = failure.errors(include_url=False)
        return [str(each["loc"][0]) for each in errors if each["loc"] and each["type"] in ("missing", Code.KEY_MISSING)]
    return []


def _place_below(types: Iterable[Any], key: str) -> tuple[str, ...]:
    """Return the path from a location to the nearest mapping below it that allows `key`; empty if absent."""
    level: list[tuple[tuple[str, ...], type[BaseModel]]] = [((), model) for model in _models(types)]
    for _ in range(MAX_DEPTH):
        below = [
            ((*path, name), inner)
            for path, model in level
            for name, annotation in _fields(model)
            for inner in _models([annotation])
        ]
        for path, model in below:
            if any(name == key for name, _ in _fields(model)):
                return path
        level = below
    return ()


def _models(types: Iterable[Any]) -> Iterator[type[BaseModel]]:
    for annotation in types:
        for candidate, _ in _alternatives(annotation):
            if _is_model(candidate):
                yield candidate


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        key = field.alias or name
        if not key.startswith("<"):
            yield key, field.annotation


def _members(annotation: Any, step: int | str) -> Iterator[Any]:
    for candidate, tag in _alternatives(annotation):
        if tag is not None:
            if tag == step:
                yield candidate
        elif candidate is AuthKind:
            yield AUTH_KINDS.get(str(step), AuthKind)
        elif _is_model(candidate):
            yield from (
                field.annotation for name, field in candidate.model_fields.items() if step == (field.alias or name)
            )
        else:
            arguments = (argument for argument in get_args(candidate) if argument is not ...)
            # An error's location contains the kind even where there is no list around it.
            yield from (AUTH_KINDS.get(str(step), item) if item is AuthKind else item for item in arguments)


def _alternatives(annotation: Any, tag: str | None = None) -> Iterator[tuple[Any, str | None]]:
    """Yield the types of a union without their annotations, each with its tag."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from _alternatives(member)
    elif hasattr(annotation, "__metadata__"):
        tags = [data.tag for data in annotation.__metadata__ if isinstance(data, Tag)]
        yield from _alternatives(annotation.__origin__, tags[0] if tags else tag)
    elif origin is not Literal:
        yield annotation, tag


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


_MAX_LISTED: Final = 10
_LEVELS_ABOVE: Final = 2

_MEANT: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("flow", "states", "steps", "tasks"), ("do",)),
    **dict.fromkeys(("goto", "next", "transition"), ("then",)),
    **dict.fromkeys(("items", "of"), ("in",)),
    **dict.fromkeys(("case", "if"), ("when",)),
    **dict.fromkeys(("data", "json"), ("body",)),
    "args": ("arguments", "with"),
    "as": ("from",),
    "auth": ("authentication",),
    "cmd": ("command",),
    "code": ("status",),
    "condition": ("if", "when"),
    "each": ("item",),
    "env": ("environment",),
    "from": ("as",),
    "item": ("each",),
    "message": ("detail",),
    "params": ("query", "parameters"),
    "parameters": ("with",),
    "payload": ("body", "data"),
    "url": ("uri", "endpoint"),
    "when": ("if",),
}
"""Keys by their names in other tools and elsewhere in the DSL: the first one that is allowed is suggested."""

_KINDS_BY_OTHER_NAMES: Final = {
    **dict.fromkeys(("asyncapi", "function", "grpc", "http", "mcp", "openapi"), "call"),
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


def _not_a_task(value: object) -> tuple[Path, str]:
    """Return where in a value that is not a task of any kind the mistake is, and the error message."""
    for key in value if isinstance(value, dict) else ():
        kind = _KINDS_BY_OTHER_NAMES.get(key.lower())
        if key in calls.FUNCTION_ARGUMENTS:
            return (key,), f"unknown key {key!r}: write `call: {key}`, and its arguments below `with`"
        if kind is not None:
            return (key,), f"unknown key {key!r}, did you mean {kind!r}?"
        hint = suggestion(key, KINDS)
        if hint:
            return (key,), f"unknown key {key!r}{hint}"
    return (), f"expected a task: a mapping with one of {', '.join(KINDS)}"


def _of_another_kind(key: str, kind: str) -> str:
    if key == "foreach":
        return ": it belongs to `listen`; a `for` task iterates over an array"
    if key == "retry" and kind in RETRIED:
        return ": it belongs below `metadata`, or below the `catch` of a `try`"
    for other, model in models_of_tasks().items():
        if key in keys_of([model]):
            return f": it belongs to tasks with `{other}`"
    return ""


_SECRET_NAME: Final = rf"^[A-Za-z0-9._-]{{1,{limits.MAX_SECRET_NAME_LENGTH}}}$"

_PATTERNS: Final = {
    definition.NAME_PATTERN: "expected letters, digits and hyphens, at most 63, with no hyphen at either end",
    workflow.DSL_VERSION_PATTERN: "expected a version 1.0.x of the DSL, such as 1.0.3",
    definition.SEMANTIC_VERSION_PATTERN: "expected a semantic version such as 1.0.0",
    definition.VERSION_OR_LATEST_PATTERN: "expected a semantic version such as 1.0.0, or latest",
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

_CAUSES: Final[Mapping[str, tuple[Code, str | _Describe]]] = {
    "missing": (Code.KEY_MISSING, lambda _error, path: f"the key {path[-1]!r} is missing"),
    "string_type": (Code.VALUE_TYPE, lambda error, path: _text(error["input"], path)),
    "string_pattern_mismatch": (
        Code.VALUE_FORMAT,
        lambda error, _path: _PATTERNS.get(error["ctx"]["pattern"], f"does not match {error['ctx']['pattern']}"),
    ),
    "string_too_long": (Code.VALUE_RANGE, "expected at most {max_length} characters"),
    "string_too_short": (Code.VALUE_RANGE, "expected at least {min_length} characters"),
    "int_type": (Code.VALUE_TYPE, lambda error, _path: f"expected an integer{_unquoting(error['input'], _INTEGER)}"),
    "float_type": (Code.VALUE_TYPE, lambda error, _path: f"expected a number{_unquoting(error['input'], _NUMBER)}"),
    "bool_type": (Code.VALUE_TYPE, lambda error, _path: f"expected true or false{_unquoting(error['input'], _TRUTH)}"),
    "dict_type": (Code.VALUE_TYPE, lambda error, _path: f"expected a mapping{_hyphens(error['input'])}"),
    **dict.fromkeys(("tuple_type", "list_type"), (Code.VALUE_TYPE, lambda error, path: _list(error["input"], path))),
    "too_short": (Code.VALUE_RANGE, lambda error, _path: f"expected at least {_items(error['ctx']['min_length'])}"),
    "too_long": (Code.VALUE_RANGE, lambda error, _path: f"expected at most {_items(error['ctx']['max_length'])}"),
    "greater_than": (Code.VALUE_RANGE, "expected more than {gt}"),
    "greater_than_equal": (Code.VALUE_RANGE, "expected at least {ge}"),
    "less_than": (Code.VALUE_RANGE, "expected less than {lt}"),
    "less_than_equal": (Code.VALUE_RANGE, "expected at most {le}"),
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
    """Yield the problems that prevent `data`, plain JSON at `path` of its document, from being a valid `model`.

    Suggestions may also name `siblings`, further keys allowed beside the model's own, with their models, and keys
    allowed `around` the data: beside its own key.
    """
    try:
        model.model_validate(data)
    except ValidationError as failure:
        explanation = _Explanation(model, data, siblings, around)
        for error in failure.errors(include_url=False):
            if error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]:
                continue  # pydantic counts only the valid items
            if error["type"] == "default_factory_not_called":
                continue  # the default depends on a key that has a problem
            place = _place(error["loc"], data, is_key=error["type"] == "extra_forbidden")
            code, cause = explanation.of(error, place)
            yield Problem((*path, *place), code, cause, at=_beginning(error))


@dataclass(frozen=True, slots=True)
class _Explanation:
    """Explains errors; see `check_shape`."""

    model: type[BaseModel]
    data: Any
    siblings: Mapping[str, type[BaseModel]]
    around: Collection[str]

    def of(self, error: ErrorDetails, place: Path) -> tuple[Code, str]:
        kind, value, text = error["type"], error["input"], error["msg"]
        if kind == "extra_forbidden":
            parent = value_at(self.data, place[:-1])
            return Code.KEY_UNKNOWN, self.unknown_key(str(place[-1]), value, parent, error["loc"][:-1])
        if kind == "union_tag_not_found":
            return Code.ITEM_INVALID, _not_a_task(value)[1] + _hyphens(value)
        if kind in _MAPPINGS:
            return Code.VALUE_TYPE, f"expected a mapping{_with(types_at(self.model, error['loc']))}{_hyphens(value)}"
        if kind in _CAUSES:
            code, cause = _CAUSES[kind]
            return code, cause.format_map(error.get("ctx", {})) if isinstance(cause, str) else cause(error, place)
        if kind in Code.__members__:
            return Code(kind), text  # raised by a validator of the models
        return Code.VALUE_TYPE, text[:1].lower() + text[1:] if text[1:2].islower() else text

    def unknown_key(self, key: str, value: object, parent: object, loc: tuple[int | str, ...]) -> str:
        """Return the cause for a key of `parent`, at the location `loc`, that is unknown there."""
        types, siblings = types_at(self.model, loc), {} if loc else self.siblings
        known = keys_of(types).union(siblings)
        kind = kind_of(parent) if loc else None
        if kind is not None and kind not in known:
            kind = None
        if kind is not None and key in KINDS:
            return f"a task has one kind, and this one is a {kind!r} task already: make another task of it"
        hint = (
            _below(key, types, parent if kind == "call" else None, siblings)
            or next((f", did you mean {other!r}?" for other in _MEANT.get(key.lower(), ()) if other in known), "")
            or self.above(key, loc)
            or (_of_another_kind(key, kind) if kind is not None else "")
            or suggestion(key, sorted(known))
        )
        if not hint and not loc and kind_of(value) is not None:
            hint = f": a task belongs in the list `do`: write `- {key}:` there, and indent its content further"
        if not hint and 0 < len(known) <= _MAX_LISTED:
            hint = f"; allowed here: {', '.join(sorted(known))}"
        return f"unknown key {key!r}{hint}"

    def above(self, key: str, loc: tuple[int | str, ...]) -> str:
        if not loc and key in self.around:
            return ": it belongs beside `with`, not inside it"
        passed = 0
        for end in range(len(loc) - 1, -1, -1):
            step = loc[end]
            if isinstance(step, str) and not step.startswith("<"):
                passed += 1
                if step != key and key in keys_of(types_at(self.model, loc[:end])):
                    return f": it belongs beside `{step}`, not inside it"
            if passed == _LEVELS_ABOVE or (isinstance(step, str) and step[1:-1] in KINDS and step.startswith("<")):
                break
        return ""


def _below(key: str, types: list[Any], call: object, siblings: Mapping[str, type[BaseModel]]) -> str:
    function = call.get("call") if isinstance(call, dict) else None
    arguments = calls.FUNCTION_ARGUMENTS.get(str(function)) or calls.COMPONENT_ARGUMENTS.get(str(function))
    for name, model in {**siblings, **({"with": arguments} if arguments else {})}.items():
        path = () if key in keys_of([model]) else _place_below([model], key)
        if path or key in keys_of([model]):
            return f": it belongs below `{'.'.join((name, *path))}`"
    path = _place_below(types, key)
    return f": it belongs below `{'.'.join(path)}`" if path else ""


def _beginning(error: ErrorDetails) -> Path:
    """Return the path at which a mistake begins.

    That is the key that names no kind of task, or the first member of a list in place of a mapping, or vice versa.
    """
    value, kind, text = error["input"], error["type"], error["msg"]
    if kind == "union_tag_not_found" and isinstance(value, dict):
        return _not_a_task(value)[0]
    if isinstance(value, list) and value:
        wants_mapping = kind in _MAPPINGS or kind in ("dict_type", "union_tag_not_found")
        return (0,) if wants_mapping or text.startswith("expected a mapping") else ()
    if isinstance(value, dict) and value:
        wants_list = kind in ("list_type", "tuple_type")
        return (next(iter(value)),) if wants_list or text.startswith("expected a list") else ()
    return ()


def _place(loc: tuple[int | str, ...], data: Any, *, is_key: bool) -> Path:
    """Return the path for a location in pydantic's form: without tags of unions, with names of tasks and cases.

    The last step may be a key of the file that only looks like a tag: `is_key`.
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
        named = isinstance(step, int) and path[-2:-1] and path[-2] in NAMED_LISTS
        if named and not last and isinstance(node, dict) and len(node) == 1:
            name, node = next(iter(node.items()))
            path.append(name)
    return tuple(path)


def _items(count: int) -> str:
    return "one item" if count == 1 else f"{count} items"


def _text(value: object, path: Path) -> str:
    expected = _TEXTS.get(str(path[-1]) if path else "", "expected a string")
    quoting = isinstance(value, int | float) and expected.startswith("expected a string")
    return f"{expected}: put it in quotes" if quoting else expected


def _unquoting(value: object, pattern: re.Pattern[str]) -> str:
    if isinstance(value, str) and pattern.fullmatch(value):
        return ": leave out the quotes"
    return ", not an expression" if is_expression(value) else ""


def _hyphens(value: object) -> str:
    return ": leave out the hyphens" if isinstance(value, list) else ""


def _list(value: object, path: Path) -> str:
    expected = _LISTS.get(str(path[-1]) if path else "")
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
    required, known = _required_keys(types), sorted(keys_of(types))
    some = "" if required or len(known) == 1 else "some of "
    keys = [f"`{key}`" for key in required or known]
    return f" with {some}{' and '.join(filter(None, [', '.join(keys[:-1]), keys[-1]]))}" if keys else ""
