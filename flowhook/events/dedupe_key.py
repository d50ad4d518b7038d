"""Dedupe keys of requests: the value of `webhook.dedupe.key`, without the prefix that names the kind of `auth`."""

from __future__ import annotations

import hashlib
from typing import Final

import orjson

from flowhook.expressions import ExpressionTypeError, strip_markers
from flowhook.expressions.paths import compile_accessor, paths_in

MAX_TEXT_BYTES: Final = 4096  # longest key, in bytes of UTF-8; a longer one is replaced by its SHA-256


class DedupeKey:
    """The `dedupe.key` of a flow, compiled.

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
        self._accessor = compile_accessor(strip_markers(expression))
        self.paths = paths_in(strip_markers(expression))

    def of_view(self, view: object) -> str:
        """Return the key of a request, given the value of `.`; empty: it has no key, and is never a duplicate by it."""
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
