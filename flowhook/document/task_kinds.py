"""The kinds of tasks and the directives of `then`, for those who read definitions without the models of `tasks`.

Source: dsl-reference.md, "Task", "Flow Directive".
"""

from __future__ import annotations

from typing import Final

DIRECTIVES: Final = frozenset({"continue", "exit", "end"})
"""Values of `then` that are not names of tasks."""

KINDS: Final = ("call", "do", "emit", "for", "fork", "listen", "raise", "run", "set", "switch", "try", "wait")
"""All kinds of tasks in the DSL; a `for` task also has a `do`."""


def kind_of(task: object) -> str | None:
    """Return the kind of a task as written, or None when it has none."""
    if not isinstance(task, dict):
        return None
    kinds = [kind for kind in KINDS if kind in task]
    if "for" in kinds:
        return "for"
    return kinds[0] if kinds else None
