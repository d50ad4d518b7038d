"""The order key of an event: what `execution.order_by` yields for it.

Whoever accepts an event makes it, once; it is stored with the event. The expression sees what is the workflow's input,
but for attachments. A string is the key as it is, any other value is written as JSON. An event for which the expression
yields null, or what can't be written, or fails, has no key and runs whenever it can.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import orjson

from flowhook import limits
from flowhook.event_input import accepted_view
from flowhook.expressions import ExpressionTypeError, strip
from flowhook.expressions.paths import compile_accessor
from flowhook.model import Event

OrderKey = Callable[[Event], str]
"""Gives the order key of an event, empty for none; at most `limits.MAX_ORDER_KEY_BYTES` of UTF-8."""


def compile_order_key(expression: str, *, webhook: bool = True) -> OrderKey:
    """Compile the `order_by` of a flow.

    Args:
        expression: in `${ }`; checked when the flow was applied.
        webhook: whether the flow has a `webhook`.

    Raises:
        InvalidExpression: it is not one that runs outside the runner.
    """
    accessor = compile_accessor(strip(expression), variables=())

    def order_key(event: Event) -> str:
        try:
            value = accessor(accepted_view(event, webhook=webhook))
        except ExpressionTypeError:
            return ""
        return _text(value)

    return order_key


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
