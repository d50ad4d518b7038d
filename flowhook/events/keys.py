"""Keys of events: `execution.order_by`, `webhook.dedupe.key` and the search attributes of `execution.search`.

They are computed once, when an event is accepted, and stored with it. The edge computes them from the content that it
has parsed anyway; the router computes them for events that it receives otherwise. The expressions, which were checked
when the flow was applied, see the workflow's input without attachments. Constructors raise `InvalidExpression` for one
that is not of the subset that runs outside the runner (`flowhook.expressions.paths`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from flowhook import limits
from flowhook.expressions.paths import compile_accessor
from flowhook.expressions.syntax import ExpressionTypeError, strip_markers

MAX_DEDUPE_BYTES: Final = 4096  # longest dedupe key, in bytes of UTF-8; a longer one is replaced by its SHA-256

MAX_ATTRIBUTES: Final = 8  # search attributes of a flow
MAX_NAME: Final = 64  # characters of the name of one
MAX_VALUE: Final = 200  # characters of its value
ATTRIBUTE_NAME_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_-]*$"

Attributes = tuple[tuple[str, str], ...]
"""Names and values."""


def order_expression(execution: Mapping[str, Any]) -> str | None:
    """Return the expression of the order key in the `execution` of a checked flow file; None: events have no order."""
    written = execution.get("order_by")
    return written["key"] if isinstance(written, Mapping) else written


class OrderKey:
    """The `order_by` of a flow, compiled. Keys have at most `limits.MAX_ORDER_KEY_BYTES`.

    A string is the key itself; any other value is encoded as JSON. An event has no key (an empty one), and runs without
    ordering, if the expression fails or yields null or a value that can't be encoded.
    """

    __slots__ = ("_accessor",)

    def __init__(self, expression: str) -> None:
        self._accessor = compile_accessor(strip_markers(expression), variables=())

    def of_view(self, view: object) -> str:
        try:
            text = _text(self._accessor(view), orjson.OPT_SORT_KEYS)
        except (ExpressionTypeError, orjson.JSONEncodeError):  # orjson reads deeper nesting than it writes
            return ""
        encoded = text.encode()
        if len(encoded) <= limits.MAX_ORDER_KEY_BYTES:
            return text
        return f"blake2b:{hashlib.blake2b(encoded, digest_size=32).hexdigest()}"


class DedupeKey:
    """The `dedupe.key` of a flow, compiled, without the prefix that names the kind of `auth`.

    An event whose key is empty is never a duplicate by it.
    """

    __slots__ = ("_accessor", "expression")

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._accessor = compile_accessor(strip_markers(expression))

    def of_view(self, view: object) -> str:
        try:
            text = _text(self._accessor(view))
        except (ExpressionTypeError, orjson.JSONEncodeError):
            return ""
        if len(text) <= MAX_DEDUPE_BYTES // 4:
            return text
        encoded = text.encode("utf-8", "replace")
        return text if len(encoded) <= MAX_DEDUPE_BYTES else "sha256:" + hashlib.sha256(encoded).hexdigest()


def _text(value: object, option: int = 0) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value, option=option).decode()


class SearchAttributes:
    """The `search` of a flow, compiled: the values by which executions are found.

    A text is cut after `MAX_VALUE` characters; numbers and booleans are written as JSON. An attribute is absent if its
    path yields anything else, an empty text included, or fails.
    """

    __slots__ = ("_accessors",)

    def __init__(self, expressions: Mapping[str, str]) -> None:
        self._accessors = [
            (name, compile_accessor(strip_markers(each), variables=())) for name, each in expressions.items()
        ]

    def of_view(self, view: object) -> Attributes:
        found: list[tuple[str, str]] = []
        for name, accessor in self._accessors:
            try:
                value = accessor(view)
            except ExpressionTypeError:
                continue
            if value != "" and isinstance(value, str | bool | int | float):
                found.append((name, cut_value(_text(value))))
        return tuple(found)


def cut_value(value: str) -> str:
    """Return what is stored of a text."""
    return value[:MAX_VALUE]
