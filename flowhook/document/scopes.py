"""Which variables an expression may use, by the place it stands at.

Source: dsl.md, "Runtime expression arguments".
"""

from __future__ import annotations

from typing import Final

WORKFLOW_INPUT: Final = frozenset({"secrets", "workflow", "runtime"})
"""`input.from` of the workflow."""

WORKFLOW_OUTPUT: Final = WORKFLOW_INPUT | {"context"}
"""`output.as` of the workflow."""

TASK_INPUT: Final = WORKFLOW_OUTPUT | {"task"}
"""`if` and `input.from` of a task."""

TASK: Final = TASK_INPUT | {"input", "authorization"}
"""What a task does, and its `output.as`."""

TASK_EXPORT: Final = TASK | {"output"}
"""`export.as` of a task."""

EXPECTATION: Final = TASK - {"secrets"}
"""`expect` of a correlation: the router stores what it yields, and compares events with it."""
