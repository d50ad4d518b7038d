"""Detection of expressions that read the clock.

The clock is not a function of document, event and journal. A task whose expressions read it (`now`, `$task.startedAt`)
therefore requests the time when it starts; the answer is journaled, and the same in every replay. An expression that is
evaluated without such a request sees the time at which the event was received.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_NOW: Final = re.compile(r'(?<![\w.$"@])now\b')
_TASK: Final = re.compile(r"\$task\b(?!\s*\.\s*(?!startedAt\b)[A-Za-z_])")
_TASKS: Final = frozenset({"do", "try", "fork"})  # keys of a task that contain other tasks

_WITH_TASKS: Final = frozenset({"catch", "foreach"})
"""Keys of a task that contain both other tasks and expressions of its own."""


def calls_now(program: str) -> bool:
    """Whether a jq program calls `now`; false positives are possible."""
    return _NOW.search(program) is not None


def task_reads_clock(task: Mapping[str, Any]) -> bool:
    """Whether an expression of a task itself may read the clock; nested tasks are not searched."""
    for key, part in task.items():
        if key == "metadata":
            if reads_clock(part.get("sink")):
                return True
        elif key in _WITH_TASKS:
            if reads_clock({name: item for name, item in part.items() if name != "do"}):
                return True
        elif key not in _TASKS and reads_clock(part):
            return True
    return False


def reads_clock(part: Any) -> bool:
    """Whether an expression anywhere in a part of a document may read the clock."""
    if isinstance(part, str):
        return calls_now(part) or _TASK.search(part) is not None
    if isinstance(part, dict):
        return any(map(reads_clock, part.values()))
    return isinstance(part, list) and any(map(reads_clock, part))
