"""Keys by which executions are shaped: those of `rate`, `concurrency`, `priority` and `debounce` of `execution`.

As an order key, each is computed once, when an event is accepted, and stored with it (`flowhook.events.keys`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from flowhook.events.keys import OrderKey

MAX_PRIORITY: Final = 9  # of the executions of a flow; the least, and the default, is 0


class ShapingKeys(NamedTuple):
    """The keys of one event."""

    rate: str = ""  # executions with the same key share a rate; empty: those without a key share one
    concurrency: str = ""  # at most so many executions with the same key run at a time; empty: no such limit
    priority: int = 0  # in [0, `MAX_PRIORITY`]: those of a higher one run first
    debounce: str = ""  # of executions with the same key that follow each other closely one is run; empty: not so

    def pack(self) -> str:
        """Return them as text, for storage."""
        return orjson.dumps([*self]).decode()

    @classmethod
    def unpack(cls, packed: str | bytes) -> ShapingKeys:
        return cls(*orjson.loads(packed))


UNSHAPED: Final = ShapingKeys()


def rate_fingerprint(flow_id: str, key: str) -> bytes:
    """Return what the line of a rate is stored under: not its key, which may be somebody's address."""
    return hashlib.blake2b(f"{flow_id}\0{key}".encode(), digest_size=16, person=b"rate").digest()


def shaping_expressions(execution: Mapping[str, Any]) -> dict[str, str]:
    """Return the expressions of keys in the `execution` of a checked flow file, by the names of `ShapingKeys`."""
    found: dict[str, str] = {}
    for name in ("rate", "concurrency", "debounce"):
        value = execution.get(name)
        if isinstance(value, Mapping) and value.get("key") is not None:
            found[name] = value["key"]
    if isinstance(execution.get("priority"), str):
        found["priority"] = execution["priority"]
    return found


class ShapingExpressions:
    """The result of `shaping_expressions`, compiled."""

    __slots__ = ("_keys", "_priority")

    def __init__(self, expressions: Mapping[str, str]) -> None:
        self._keys = [(name, OrderKey(each)) for name, each in expressions.items() if name != "priority"]
        self._priority = OrderKey(expressions["priority"]) if "priority" in expressions else None

    def of_view(self, view: object) -> ShapingKeys:
        keys = {name: key.of_view(view) for name, key in self._keys}
        priority = 0 if self._priority is None else read_priority(self._priority.of_view(view))
        return ShapingKeys(priority=priority, **keys)


def read_priority(text: str) -> int:
    """Return the priority that a value amounts to: that of a number is the nearest one there is, of all else 0."""
    try:
        return min(max(int(float(text)), 0), MAX_PRIORITY)
    except (ValueError, OverflowError):
        return 0
