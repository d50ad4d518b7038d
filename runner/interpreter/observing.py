"""What a person who tries a flow may want to see of each task; nobody looks in production."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flowhook.model import WorkflowError
from runner.interpreter.nodes import Node


@dataclass(frozen=True, slots=True)
class Observation:
    """A task that has just ended.

    Attributes:
        node: the task.
        iterations: indexes of the loops around it, the outermost first.
        skipped: its condition was not true; then the output is the input.
        input: what it worked on, after `input.from` where that came about.
        output: what it handed on, after `output.as`; None when it faulted.
        context: `$context` after it.
        then: directive it was left by: `continue`, `exit`, `end` or the name of a task; empty when it faulted.
        error: what it faulted with.
    """

    node: Node
    iterations: tuple[int, ...]
    skipped: bool
    input: Any
    output: Any
    context: Any
    then: str
    error: WorkflowError | None = None


Observer = Callable[[Observation], None]
"""Is told of each task when it ends; values must not be changed. What it raises ends the run, past every `try`."""
