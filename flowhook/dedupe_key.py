"""The dedupe key of a request: what `webhook.dedupe.key` yields for it, before the kind of `auth` is put in front."""

from __future__ import annotations

import hashlib
from typing import Final

import orjson

from flowhook.expressions import ExpressionTypeError, strip
from flowhook.expressions.paths import compile_accessor, paths_in

MAX_TEXT_BYTES: Final = 4096
"""A longer text becomes its hash at once."""


class DedupeKey:
    """The `dedupe.key` of a flow, compiled.

    Attributes:
        expression: as written.
        paths: where in `.` it looks.
    """

    __slots__ = ("_accessor", "expression", "paths")

    def __init__(self, expression: str) -> None:
        """Compile an expression in `${ }`, which was checked when the flow was applied.

        Raises:
            InvalidExpression: it is not one that runs outside the runner.
        """
        self.expression = expression
        self._accessor = compile_accessor(strip(expression))
        self.paths = paths_in(strip(expression))

    def of_view(self, view: object) -> str:
        """Return the key of a request, given what `.` is; empty for one that has none and is one of its own."""
        try:
            value = self._accessor(view)
            if value is None:
                return ""
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
        except (ExpressionTypeError, orjson.JSONEncodeError):
            return ""
        if len(text) <= MAX_TEXT_BYTES // 4:
            return text
        encoded = text.encode("utf-8", "replace")
        return text if len(encoded) <= MAX_TEXT_BYTES else "sha256:" + hashlib.sha256(encoded).hexdigest()
