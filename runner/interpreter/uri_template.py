"""URI templates of the DSL: simple string expansion of top-level properties.

A value cannot leave its path segment: `/` is encoded, and a value that makes the segment `.` or `..` is rejected.
Encoding would not help there: dots are unreserved, so `%2E` is equivalent and may be normalized on the way.

Source: dsl-reference.md, "URI Template"; RFC 6570, section 3.2.2; RFC 3986, sections 2.3 and 6.2.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, unquote

from flowhook.expressions import is_expression
from runner.interpreter.errors import ExpressionFailed

Expand = Callable[[Any], str]
"""Returns the URI for the task's input; raises ExpressionFailed."""

_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")


def compile_uri(uri: str) -> Expand | None:
    """Return a function that expands `uri`; None if it has no variables, or is a runtime expression."""
    if is_expression(uri) or not _VARIABLE.search(uri):
        return None

    path = re.split(r"[?#]", uri, maxsplit=1)[0]
    segments = [segment for segment in path.split("/") if _VARIABLE.search(segment)]

    def expand(data: Any) -> str:
        values = data if isinstance(data, dict) else {}

        def fill(template: str) -> str:
            return _VARIABLE.sub(lambda match: _text(match[1], values.get(match[1])), template)

        for segment in segments:
            if unquote(fill(segment)) in (".", ".."):
                raise ExpressionFailed(f"{segment} must not become `.` or `..`, which would change the path")
        return fill(uri)

    return expand


def _text(name: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return quote(str(value), safe="-._~")
    raise ExpressionFailed(f"{{{name}}} is an {'array' if isinstance(value, list) else 'object'}; a URI needs a scalar")
