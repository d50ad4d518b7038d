"""Writes results of operations as JSON, by convention, and describes them: the API's answers, `--json`, OpenAPI.

- A field is a key. An ID of another thing has the thing's name: `flow_id` is `flow`, `execution_id` is `execution`.
- Times are RFC 3339 in UTC with milliseconds: `receive_time_ms` is `received_at`. Header fields and search attributes
  are objects; bytes that are JSON stay as they are; digests are hexadecimal.
- A text that there is not is empty; a time, a number or an object that there is not is null.

Writers are compiled once for each type. What does not follow the convention is in `HIDDEN`, `NAMES` and `SHOWN`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from inspect import getdoc
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import orjson

from flowhook.model import Flow, Retry, WorkflowError, to_datetime
from flowhook.model.cluster import ProcessInfo
from flowhook.model.executions import Attempt
from flowhook.model.flows import AppliedFlow, FlowStatistics
from flowhook.model.jobs import Job
from flowhook.model.rejections import RejectedRequest
from flowhook.model.replays import ReplayOrigin
from flowhook.model.types import field_types

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

NAMES: Final = {"flow_revision": "revision", "has_webhook": "webhook"}  # keys that are not made by the rule

HIDDEN: Final[Mapping[type, frozenset[str]]] = {
    AppliedFlow: frozenset({"located_warnings"}),
    Flow: frozenset({"document", "definition"}),
    FlowStatistics: frozenset({"flow"}),
    Job: frozenset({"spec"}),
    ProcessInfo: frozenset({"clock_skew", "last_seen", "metrics", "url", "warnings"}),
    RejectedRequest: frozenset({"headers", "body"}),
    ReplayOrigin: frozenset({"from_failed_task", "attachment_owner"}),
    Retry: frozenset({"keys", "follows"}),
    WorkflowError: frozenset({"raising", "destination"}),
}
"""Fields that are not written: what only the router and runners need, and what lists leave out.

A subclass that declares such a field again is written with it.
"""

# properties that are written after the fields
SHOWN: Final[Mapping[type, tuple[str, ...]]] = {
    Attempt: ("reason",),
    FlowStatistics: ("missing_secrets",),
    RejectedRequest: ("accepted_execution_id",),
    ReplayOrigin: ("start",),
}

# what happened at a time: `receive_time_ms` is `received_at`
_VERBS: Final = frozenset(
    (
        *("accept", "assign", "begin", "close", "create", "end", "erase", "fault", "match", "open", "receive"),
        *("resolve", "start", "update"),
    )
)
REFERENCE: Final = "#/components/schemas/"


class _Member(NamedTuple):
    """A member of the object that a type is written as: the attribute, its key, its type, and what writes it."""

    attribute: str
    key: str
    hint: Any
    write: Callable[[Any], Any]


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown_fields(kind: type[DataclassInstance], value: object) -> dict[str, Any]:
    """Return the fields of a result that are attributes of what it is made of; further ones are given beside them."""
    return {each.name: getattr(value, each.name) for each in fields(kind) if hasattr(value, each.name)}


def plain(value: Any) -> Any:
    """Return a value as objects, lists, texts, numbers and null; JSON that is stored stays as it is."""
    if isinstance(value, str | int | float | None | orjson.Fragment) and not isinstance(value, Enum):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return rfc3339(value)
    if is_dataclass(value) or hasattr(value, "_fields"):
        return {key: write(getattr(value, attribute)) for attribute, key, _, write in _members(type(value))}  # type: ignore[arg-type] # a class can be hashed
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    return [plain(each) for each in value]


def to_json(value: Any, *, indent: bool = False) -> bytes:
    return orjson.dumps(plain(value), option=orjson.OPT_INDENT_2 if indent else 0)


def header_texts(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Return header fields by name.

    The values of a repeated one are joined by commas (RFC 9110, section 5.3); what is not UTF-8 is written with
    backslashes.
    """
    texts: dict[str, str] = {}
    for name, value in headers:
        text = value.decode("utf-8", "backslashreplace")
        texts[name] = f"{texts[name]}, {text}" if name in texts else text
    return texts


def schema_of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of what is written for values of a type; schemas of classes are added to `definitions`."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in _SCALARS:
        return dict(_SCALARS[hint])
    if origin in {Union, types.UnionType}:
        return {"anyOf": [schema_of(each, definitions) for each in args]}
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    if hint == Sequence[tuple[str, bytes]] or (origin is not None and issubclass(origin, Mapping)):
        values = _SCALARS[str] if origin is tuple else schema_of(args[1], definitions)
        return {"type": "object", "additionalProperties": dict(values)}
    if origin is tuple or (origin is not None and issubclass(origin, Sequence)):
        return {"type": "array", "items": schema_of(args[0], definitions)}
    if hint.__name__ not in definitions:
        definitions[hint.__name__] = {}  # it may contain itself
        definitions[hint.__name__] = _schema_of_class(hint, definitions)
    return {"$ref": f"{REFERENCE}{hint.__name__}"}


_SCALARS: Final[Mapping[Any, Mapping[str, Any]]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    datetime: {"type": "string", "format": "date-time"},
    bytes: {"type": "string"},
    Any: {},
}


def _schema_of_class(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    about = (getdoc(kind) or "").partition("\nAttributes:")[0].strip()  # these have the names of the Python API
    described = {"title": kind.__name__, "description": about}
    if issubclass(kind, Enum):
        return {**described, "type": "string", "enum": [each.value for each in kind]}
    members = _members(kind)
    properties = {each.key: schema_of(each.hint, definitions) for each in members}
    return {**described, "type": "object", "properties": properties, "required": list(properties)}


@cache
def _members(kind: Any) -> tuple[_Member, ...]:
    hidden = next((HIDDEN[each] for each in kind.__mro__ if each in HIDDEN), frozenset())
    if kind not in HIDDEN:
        hidden -= vars(kind).get("__annotations__", {}).keys()
    fields = [_member(kind, name, hint) for name, hint in field_types(kind).items() if name not in hidden]
    shown = next((SHOWN[each] for each in kind.__mro__ if each in SHOWN), ())
    for name in shown:
        hint = get_type_hints(getattr(kind, name).fget)["return"]
        fields.append(_Member(name, key_of(name), hint, plain))
    return tuple(fields)


def _member(kind: type, name: str, hint: Any) -> _Member:
    if name.endswith("_ms"):
        return _Member(name, _time_key(kind, name), datetime if hint is int else datetime | None, _write_time)
    if hint == tuple[tuple[str, bytes], ...]:
        return _Member(name, key_of(name), Mapping[str, str], header_texts)
    if hint == tuple[tuple[str, str], ...]:
        return _Member(name, key_of(name), Mapping[str, str], dict)
    if name in ("body", "document") and hint is bytes:
        return _Member(name, name, str | None, _write_text)
    if hint in (bytes, bytes | None) and name != "sha256":
        return _Member(name, key_of(name), Any, stored_json)
    return _Member(name, key_of(name), hint, plain)


def key_of(field: str) -> str:
    return NAMES.get(field) or field.removesuffix("_").removesuffix("_id")


def _time_key(kind: type, name: str) -> str:
    """Return the key of a time: the property that returns it as a datetime has that name."""
    bare = name.removesuffix("_ms")
    stem = bare.removesuffix("_time")
    if stem in _VERBS:
        past = "began" if stem == "begin" else f"{stem.removesuffix('e')}ed"
        return f"{past}_at"
    names = (f"{stem}_at", "refused_at", bare, stem)
    named = (key for key in names if isinstance(getattr(kind, key, None), property))
    return next(named, bare if bare in ("time", "until") else f"{stem}_at")


def _write_time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else rfc3339(to_datetime(milliseconds))


def stored_json(stored: bytes | None) -> orjson.Fragment | None:
    return orjson.Fragment(stored) if stored else None


def _write_text(content: bytes) -> str | None:
    return content.decode("utf-8", "replace") if content else None
