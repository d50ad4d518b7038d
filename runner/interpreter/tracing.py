"""Observation of tasks for people who try out a flow; not used in production."""

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
        iterations: indexes of the enclosing loops, the outermost first.
        skipped: whether its condition was not true; then the output is the input.
        input: its input, after `input.from` if that was evaluated.
        output: its output, after `output.as`; None when it faulted.
        context: `$context` after it.
        then: its final flow directive: `continue`, `exit`, `end` or the name of a task; empty when it faulted.
        error: the error it faulted with.
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
"""Called with each task that ends; must not change values. An exception it raises ends the run, past every `try`."""
