"""Types of the fields of forms and queries (`webhook.fields`), which arrive as texts.

The edge refuses a request with a field that is not of its type. The body is stored as it was sent, so whatever reads an
event converts its fields again; a field that can't be converted, because the event was accepted before the flow
declared it, stays a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from flowhook.errors import InvalidError
from flowhook.payloads.content_type import parse_content_type
from flowhook.payloads.multipart import FORM_DATA

FORMS: Final = frozenset({"application/x-www-form-urlencoded", FORM_DATA})

_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,300})(?:\.[0-9]{1,300})?(?:[eE][+-]?[0-9]{1,3})?")
_BOOLEANS: Final = {"true": True, "false": False, "on": True}  # browsers send `on` for a box that is checked


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError
    return int(text)


def _number(text: str) -> float:
    if _INTEGER.fullmatch(text):
        return int(text)
    number = float(text) if _NUMBER.fullmatch(text) else math.inf
    if not math.isfinite(number):
        raise ValueError
    return number


def _boolean(text: str) -> bool:
    if text not in _BOOLEANS:
        raise ValueError
    return _BOOLEANS[text]


_READ: Final[Mapping[str, Callable[[str], Any]]] = {"number": _number, "integer": _integer, "boolean": _boolean}

FieldTypes = Mapping[str, str]
"""Names of fields, as senders write them without brackets, and `number`, `integer` or `boolean`."""


def field_types(definition: Mapping[str, Any]) -> FieldTypes:
    """Return the `webhook.fields` of a flow's definition."""
    return (definition.get("webhook") or {}).get("fields") or {}


def with_types(data: Any, types: FieldTypes, *, strict: bool = False) -> Any:
    """Return the input of a workflow with its fields converted; of a batch, all its inputs.

    Anything but the description of a request is returned as it is. With `strict`, a field that is not of its type
    raises InvalidError (`BODY_INVALID`), which names it.
    """
    if not types:
        return data
    if isinstance(data, list):
        return [with_types(each, types, strict=strict) for each in data]
    if not isinstance(data, dict) or not {"query", "content_type", "body"} <= data.keys():
        return data
    converted = {**data, "query": _converted(data["query"], types, strict=strict)}
    if is_form(str(data["content_type"])):
        converted["body"] = _converted(data["body"], types, strict=strict)
    return converted


def form_with_types(content_type: str, body: Any, types: FieldTypes) -> Any:
    """Return a parsed body with its fields converted, if it is a form; for errors see `with_types`, `strict`."""
    return _converted(body, types, strict=True) if types and is_form(content_type) else body


def is_form(content_type: str) -> bool:
    return parse_content_type(content_type).essence in FORMS


def _converted(fields: Any, types: FieldTypes, *, strict: bool) -> Any:
    if not isinstance(fields, dict):
        return fields
    found = {name: _read(name, fields[name], kind, strict=strict) for name, kind in types.items() if name in fields}
    return {**fields, **found} if found else fields


def _read(name: str, value: Any, kind: str, *, strict: bool) -> Any:
    if isinstance(value, list):
        return [_read(name, each, kind, strict=strict) for each in value]
    if isinstance(value, str):
        try:
            return _READ[kind](value)
        except ValueError:
            if strict:
                article = "an" if kind == "integer" else "a"
                raise InvalidError(f"the field {name} is not {article} {kind}", reason="BODY_INVALID") from None
    return value
