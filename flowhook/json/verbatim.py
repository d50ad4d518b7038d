"""Reads and writes JSON whose numbers stay as they were written: `1.0`, `1e2` and 400 digits are not rounded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson


@dataclass(frozen=True, slots=True)
class JsonNumber:
    """A number as it was written. Two of them are equal if they are written alike."""

    text: str


def loads(text: bytes) -> Any:
    """Return the value of a JSON text, with `JsonNumber` in place of `int` and `float`.

    Blocking, in proportion to the length, which the caller limits.

    Raises:
        ValueError: it is not JSON in UTF-8, an object has a member twice, or it is too deeply nested.
    """
    try:
        return json.loads(
            text.decode(),
            parse_int=JsonNumber,
            parse_float=JsonNumber,
            parse_constant=_no_constant,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("the text is too deeply nested") from None


def dumps(value: Any) -> bytes:
    """Return a value of `loads` as JSON; ValueError: it has more than some 250 levels, or a string is not Unicode."""
    try:
        return orjson.dumps(value, default=_fragment, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    except orjson.JSONEncodeError as error:
        raise ValueError("the value can't be written as JSON") from error


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(members)
    if len(result) != len(members):
        raise ValueError("an object has a member twice")
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _fragment(value: Any) -> orjson.Fragment:
    if isinstance(value, JsonNumber):
        return orjson.Fragment(value.text)
    raise TypeError(type(value).__name__)
