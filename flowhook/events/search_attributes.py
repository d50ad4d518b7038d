"""Search attributes of events: the values of `execution.search`, by which executions are found.

They are computed once, when the event is accepted, as order keys are (`flowhook.events.order_key`), and stored with the
execution. A text is cut after `MAX_VALUE` characters; numbers and booleans are written as JSON. An attribute is absent
if its path yields anything else, an empty text included, or fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson

from flowhook.expressions import ExpressionTypeError, strip_markers
from flowhook.expressions.paths import compile_accessor, paths_in

MAX_ATTRIBUTES: Final = 8  # search attributes of a flow
MAX_NAME: Final = 64  # characters of a name
MAX_VALUE: Final = 200  # characters of a value
NAME_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_-]*$"
Attributes = tuple[tuple[str, str], ...]  # names and values


class SearchAttributes:
    """The `search` of a flow, compiled.

    Attributes:
        expressions: paths as written, by the attributes' names.
        paths: the paths in `.` that it reads.
    """

    __slots__ = ("_accessors", "expressions", "paths")

    def __init__(self, expressions: Mapping[str, str]) -> None:
        """Compile paths, which were checked when the flow was applied.

        Raises:
            InvalidExpression: one is not of the subset that runs outside the runner (`flowhook.expressions.paths`).
        """
        self.expressions = dict(expressions)
        programs = {name: strip_markers(each) for name, each in expressions.items()}
        self._accessors = [(name, compile_accessor(each, variables=())) for name, each in programs.items()]
        self.paths = [path for each in programs.values() for path in paths_in(each)]

    def of_view(self, view: object) -> Attributes:
        """Return the attributes of an event, given the value of `.`."""
        found: list[tuple[str, str]] = []
        for name, accessor in self._accessors:
            try:
                text = _text(accessor(view))
            except ExpressionTypeError:
                continue
            if text:
                found.append((name, text))
        return tuple(found)


def cut_value(value: str) -> str:
    """Return what is stored of a text."""
    return value[:MAX_VALUE]


def _text(value: object) -> str:
    if isinstance(value, str):
        return cut_value(value)
    return cut_value(orjson.dumps(value).decode()) if isinstance(value, bool | int | float) else ""
