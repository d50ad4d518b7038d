"""Writes answers as lines of text: a key and the kinds of its values a line, so that a diff shows each changed word."""

from __future__ import annotations

import re
import typing
from enum import Enum

KINDS = (
    ("time", re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")),
    ("id", re.compile(r"(evt|job|rej)_\w+")),
    ("text", re.compile(r"(?![a-z][a-z_.-]*$)[\s\S]*")),
)
"""Kinds of strings, of which the first that matches counts; another one is a word, which is written as it is."""

MAX_WORDS = 9
"""Words of a key, of which there may be more some day, are written up to this number."""

VARYING = {"clock_skew_seconds": "null | number", "host": "text", "last_used_at": "null | time"}
"""Keys whose kind depends on the machine, or on how fast it is."""

VERBATIM = re.compile(r"\.(definition|arguments|request\.headers|(request\.)?body|output|headers)$")
"""Keys of what senders and authors of flows wrote, which is passed on."""


def lines(values):
    """Yield the keys of JSON values, which are taken together, with the kinds of what they hold."""
    found = {}
    for value in values:
        _collect(value, "", found)
    for path, kinds in sorted(found.items()):
        words = sum(kind.startswith('"') for kind in kinds)
        shown = "text" if words > MAX_WORDS else " | ".join(sorted(kinds))
        yield f"  {path.removeprefix('.') or '(itself)'}: {VARYING.get(path.rpartition('.')[2], shown)}"


def _collect(value, path, found):
    kinds = found.setdefault(path, set())
    if isinstance(value, list):
        kinds.add("list")
        members = ((f"{path}[]", member) for member in value)
    elif isinstance(value, dict):
        is_verbatim = VERBATIM.search(path) and not value.keys() & {"differences", "until"}
        if not value or path == "" or is_verbatim:
            kinds.add("object")
        members = () if is_verbatim else ((f"{path}.{key}", member) for key, member in value.items())
    else:
        kinds.add(_kind(value))
        members = ()
    for below, member in members:
        _collect(member, below, found)
    if not kinds:
        del found[path]


def _kind(value):
    if not isinstance(value, str):
        return {bool: "boolean", type(None): "null"}.get(type(value), "number")
    if not value:
        return '""'
    kind = next((name for name, pattern in KINDS if pattern.fullmatch(value)), "")
    return kind or f'"{value}"'


def schema_lines(document):
    """Yield the operations and the schemas of an OpenAPI description, without its prose."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}"
            for each in operation["parameters"]:
                mark = "" if each["required"] else "?"
                yield f"  {each['in']} {each['name']}{mark}: {_type(each['schema'])}"
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            for name, schema in body.get("properties", {}).items():
                mark = "" if name in body["required"] else "?"
                yield f"  body {name}{mark}: {_type(schema)}"
            for kind, content in operation["responses"]["200"]["content"].items():
                yield f"  -> {_type(content['schema']) if content else kind}"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f"{name}: {_type(schema)}"
        required = schema.get("required", ())
        for key, member in schema.get("properties", {}).items():
            yield f"  {key}{'' if key in required else '?'}: {_type(member)}"


def _type(schema):
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return " | ".join(_type(each) for each in schema["anyOf"])
    if "const" in schema:
        return f'"{schema["const"]}"'
    if "enum" in schema:
        return " | ".join(f'"{each}"' for each in schema["enum"])
    if schema.get("type") == "array":
        return f"[{_type(schema.get('items', {}))}]"
    return " ".join(filter(None, (schema.get("type", "any"), schema.get("format", ""))))


def help_lines(command, path="flowhook"):
    """Yield what `--help` says of a command and of those below it."""
    yield f"{path}"
    yield from (f"  {line}".rstrip() for line in (command.help or "").strip().splitlines())
    for parameter in command.params:
        if not (parameter.hidden if hasattr(parameter, "hidden") else False) and "completion" not in parameter.name:
            yield f"  {_option(parameter)}"
    for name, below in getattr(command, "commands", {}).items():
        yield from help_lines(below, f"{path} {name}")


def _option(parameter):
    metavar = f" {parameter.metavar or _choices(parameter.type_descriptor.annotation)}".rstrip()
    is_argument = parameter.param_type_name == "argument"
    names = "argument" if is_argument else "/".join([*parameter.opts, *parameter.secondary_opts])
    marks = (" required" if parameter.required else "") + (" repeated" if _repeated(parameter) else "")
    return f"{names}{metavar}{marks}: {' '.join((parameter.help or '').split())}"


def _repeated(parameter):
    return getattr(parameter, "multiple", False) or parameter.nargs == -1


def _choices(annotation):
    """Return the words that an option takes."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(each.value) for each in annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(typing.get_args(annotation))
    return next(filter(None, map(_choices, typing.get_args(annotation))), "")
