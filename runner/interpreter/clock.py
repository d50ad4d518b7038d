"""Time, as expressions see it.

The clock is not a function of document, event and journal. So a task whose expressions look at it (`now`,
`$task.startedAt`) asks for the time when it begins; the answer is journaled, and the same again in every replay.
What is evaluated without having asked sees the time at which the event was received.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_NOW: Final = re.compile(r'(?<![\w.$"@])now\b')
_TASK: Final = re.compile(r"\$task\b(?!\s*\.\s*(?!startedAt\b)[A-Za-z_])")
_TASKS: Final = frozenset({"do", "try", "fork"})
"""Keys of a task below which there are other tasks."""

_WITH_TASKS: Final = frozenset({"catch", "foreach"})
"""Keys of a task below which there are both."""


def calls_now(program: str) -> bool:
    """Whether a jq program calls `now`; true for some that only seem to."""
    return _NOW.search(program) is not None


def looks_at_clock(task: Mapping[str, Any]) -> bool:
    """Whether an expression of a task itself may look at the clock; tasks within it are not looked into."""
    for key, part in task.items():
        if key == "metadata":
            if mentions_clock(part.get("sink")):
                return True
        elif key in _WITH_TASKS:
            if mentions_clock({name: item for name, item in part.items() if name != "do"}):
                return True
        elif key not in _TASKS and mentions_clock(part):
            return True
    return False


def mentions_clock(part: Any) -> bool:
    """Whether an expression anywhere in a part of a document may look at the clock."""
    if isinstance(part, str):
        return calls_now(part) or _TASK.search(part) is not None
    if isinstance(part, dict):
        return any(map(mentions_clock, part.values()))
    return isinstance(part, list) and any(map(mentions_clock, part))
