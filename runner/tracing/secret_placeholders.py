"""Placeholders for the values of secrets: a trace is shown to people, so it never has the values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

PLACEHOLDER: Final = "•••"

_CREDENTIALS: Final[Mapping[str, Any]] = {
    "username": PLACEHOLDER,
    "password": PLACEHOLDER,
    "token": PLACEHOLDER,
    "client": {"id": PLACEHOLDER, "secret": PLACEHOLDER},
}
"""Members of a secret that a policy of `authentication` uses by its name."""

_MENTION: Final = re.compile(r"\$\s*secrets\b")
_NAME: Final = r"(?:\.(?:\\?\"{name}\\?\"|{name})|\[\\?\"{name}\\?\"\])"
_FIELD: Final = re.compile(r"\.([A-Za-z_]\w*)|\[\\?\"([^\"\\\]]+)\\?\"\]")


def mentions_secrets(definition: Any) -> bool:
    """Whether an expression in a definition mentions `$secrets`, or a policy in it names a secret."""
    return any(_MENTION.search(text) for text in _texts(definition)) or any(True for _ in _uses(definition))


def placeholders(names: Iterable[str], definition: Any) -> dict[str, Any]:
    """Return `$secrets` with placeholders: a text, or an object with the members that the flow reads.

    Args:
        names: names of the flow's secrets.
        definition: the flow's definition.
    """
    text = orjson.dumps(definition).decode()
    used = frozenset(_uses(definition))
    return {name: _placeholder(name, text, is_policy=name in used) for name in names}


def _placeholder(name: str, text: str, *, is_policy: bool) -> Any:
    value: dict[str, Any] = dict(_CREDENTIALS) if is_policy else {}
    for match in re.finditer(r"\$\s*secrets" + _NAME.format(name=re.escape(name)) + r"(?![\w-])", text):
        place, position = value, match.end()
        fields = []
        while field := _FIELD.match(text, position):
            fields.append(field[1] or field[2])
            position = field.end()
        for each in fields[:-1]:
            inner = place.get(each)
            place[each] = place = dict(inner) if isinstance(inner, Mapping) else {}
        if fields:
            place.setdefault(fields[-1], PLACEHOLDER)
    return value or PLACEHOLDER


def _uses(value: Any) -> Iterator[str]:
    """Yield the names of secrets that policies of `authentication` use."""
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        if isinstance(item, Mapping) and isinstance(item.get("use"), str):
            yield item["use"]
        yield from _uses(item)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _texts(item)
