"""Variables that an expression may use, by its location in a flow.

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
"""The action of a task, and its `output.as`."""

TASK_EXPORT: Final = TASK | {"output"}
"""`export.as` of a task."""

EXPECTATION: Final = TASK - {"secrets"}
"""`expect` of a correlation: the router stores its result, and compares events with it."""
