"""Lists of properties: `a=1&b[c]=2&d[]=3`, and what becomes of their names.

`a[b]` is a member, `a[]` appends, `a[0]` is an element; a repeated name becomes an array. Where a name stands for a
value and for more (`a=1&a[b]=2`), the value is kept under an empty key.

Source: https://url.spec.whatwg.org/#urlencoded-parsing; the brackets are PHP's and Rails', which no standard describes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import parse_qsl

from flowhook.errors import InvalidError
from flowhook.payloads.content_type import decode

MAX_FIELDS: Final = 10_000
MAX_DEPTH: Final = 32
"""Brackets of one name."""

_NAME: Final = re.compile(r"([^\[]*)((?:\[[^\[\]]*\])*)")
_BRACKET: Final = re.compile(r"\[([^\[\]]*)\]")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_VALUE: Final = ""
_APPEND: Final = None

_Tree = dict[str | None, Any]
"""By key: a subtree, or a list of values. Under `_APPEND` stands what `[]` appended."""


def parse_urlencoded(body: bytes, charset: str) -> dict[str, Any]:
    """Return the properties of an `application/x-www-form-urlencoded` body.

    Raises:
        InvalidError: it is not of the charset, or has too many fields or brackets (`BODY_INVALID`).
    """
    text = decode(body, charset)
    try:
        fields = parse_qsl(
            text, keep_blank_values=True, encoding=charset or "utf-8", errors="strict", max_num_fields=MAX_FIELDS
        )
    except (UnicodeError, ValueError):
        raise InvalidError(
            f"the form is not urlencoded, or has more than {MAX_FIELDS} fields", reason="BODY_INVALID"
        ) from None
    return nest(fields)


def nest(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return fields as an object, the brackets of their names undone.

    Raises:
        InvalidError: a name has too many brackets (`BODY_INVALID`).
    """
    tree: _Tree = {}
    for name, value in fields:
        place = tree
        keys = _keys(name)
        for key in keys[:-1]:
            below = place.get(key)
            if not isinstance(below, dict):
                below = place[key] = {} if below is None else {_VALUE: below}
            place = below
        known = place.get(keys[-1])
        if isinstance(known, dict):
            place, known = known, known.get(_VALUE)
            keys = [_VALUE]
        if known is None:
            place[keys[-1]] = [value]
        else:
            known.append(value)
    return {str(key): _plain(below) for key, below in tree.items()}


def _keys(name: str) -> list[str | None]:
    whole = _NAME.fullmatch(name)
    if whole is None or not whole[1]:
        return [name]
    brackets = _BRACKET.findall(whole[2])
    if len(brackets) > MAX_DEPTH:
        raise InvalidError(f"a field's name has at most {MAX_DEPTH} brackets", reason="BODY_INVALID")
    return [whole[1], *(key or _APPEND for key in brackets)]


def _plain(below: Any) -> Any:
    """Return a tree as JSON: values that stand alone are no arrays, and keys that are all indexes make one."""
    if isinstance(below, list):
        return below[0] if len(below) == 1 else below
    appended = below.pop(_APPEND, None)
    indexed = sorted((int(key), item) for key, item in below.items() if _INDEX.fullmatch(key))
    if len(indexed) == len(below):
        items = [_plain(item) for _, item in indexed]
        if appended is None:
            return items
        return [*items, *(appended if isinstance(appended, list) else [_plain(appended)])]
    members = {key: _plain(item) for key, item in below.items()}
    if appended is not None:
        members["[]"] = appended if isinstance(appended, list) else [_plain(appended)]
    return members
