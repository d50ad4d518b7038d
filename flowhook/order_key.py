"""The order key of an event: what `execution.order_by` yields for it.

Whoever accepts an event makes it, once; it is stored with the event. An edge makes it of what it parsed anyway; the
router does it for what comes to it otherwise. The expression sees what is the workflow's input, but for attachments. A
string is the key as it is, any other value is written as JSON. An event for which the expression yields null, or what
can't be written, or fails, has no key and runs whenever it can.
"""

from __future__ import annotations

import hashlib

import orjson

from flowhook import limits
from flowhook.event_input import accepted_view
from flowhook.expressions import ExpressionTypeError, strip
from flowhook.expressions.paths import compile_accessor, paths_in
from flowhook.model import Event


class OrderKey:
    """The `order_by` of a flow, compiled. What it gives is empty for none; at most `limits.MAX_ORDER_KEY_BYTES`.

    Attributes:
        expression: as written.
        paths: where in `.` it looks.
        webhook: whether the flow has a `webhook`.
        raw: whether that leaves bodies as they are: `.body` is null then, as in the workflow's input.
    """

    __slots__ = ("_accessor", "expression", "paths", "raw", "webhook")

    def __init__(self, expression: str, *, webhook: bool = True, raw: bool = False) -> None:
        """Compile an expression in `${ }`, which was checked when the flow was applied.

        Raises:
            InvalidExpression: it is not one that runs outside the runner.
        """
        self.expression = expression
        self.webhook = webhook
        self.raw = raw
        self._accessor = compile_accessor(strip(expression), variables=())
        self.paths = paths_in(strip(expression))

    def of_view(self, view: object) -> str:
        """Return the key of an event, given what `.` is."""
        try:
            return _text(self._accessor(view))
        except ExpressionTypeError:
            return ""

    def of_event(self, event: Event) -> str:
        """Return the key of an event. Blocking: it parses the body."""
        return self.of_view(accepted_view(event, webhook=self.webhook, raw=self.raw))


def _text(value: object) -> str:
    if value is None:
        return ""
    try:
        text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONEncodeError:  # it nests deeper than can be written, although it could be read
        return ""
    encoded = text.encode()
    if len(encoded) <= limits.MAX_ORDER_KEY_BYTES:
        return text
    return f"blake2b:{hashlib.blake2b(encoded, digest_size=32).hexdigest()}"
