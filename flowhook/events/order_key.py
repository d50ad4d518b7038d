"""Order keys of events: the value of `execution.order_by`.

The key is computed once, when the event is accepted, and stored with the event. The edge computes it from the content
that it has parsed anyway; the router computes it for events that it receives otherwise. The expression sees the
workflow's input without attachments. A string is the key itself; any other value is encoded as JSON. An event has no
key, and runs without ordering, if the expression fails or yields null or a value that can't be encoded.
"""

from __future__ import annotations

import hashlib

import orjson

from flowhook import limits
from flowhook.expressions import ExpressionTypeError, strip_markers
from flowhook.expressions.paths import compile_accessor, paths_in


class OrderKey:
    """The `order_by` of a flow, compiled. Keys have at most `limits.MAX_ORDER_KEY_BYTES`; an empty key is none.

    Attributes:
        expression: as written.
        paths: the paths in `.` that it reads.
    """

    __slots__ = ("_accessor", "expression", "paths")

    def __init__(self, expression: str) -> None:
        """Compile an expression in `${ }`, which was checked when the flow was applied.

        Raises:
            InvalidExpression: it is not of the subset that runs outside the runner (`flowhook.expressions.paths`).
        """
        self.expression = expression
        self._accessor = compile_accessor(strip_markers(expression), variables=())
        self.paths = paths_in(strip_markers(expression))

    def of_view(self, view: object) -> str:
        """Return the key of an event, given the value of `.`."""
        try:
            return _text(self._accessor(view))
        except ExpressionTypeError:
            return ""


def _text(value: object) -> str:
    if value is None:
        return ""
    try:
        text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONEncodeError:  # orjson reads deeper nesting than it writes
        return ""
    encoded = text.encode()
    if len(encoded) <= limits.MAX_ORDER_KEY_BYTES:
        return text
    return f"blake2b:{hashlib.blake2b(encoded, digest_size=32).hexdigest()}"
