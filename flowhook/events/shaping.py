"""Keys by which executions are shaped: of `rate`, `concurrency`, `priority`, and `debounce` or `batch` of `execution`.

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
    group: str = ""  # one runs of the executions with the same key that are debounced or batched; empty: not so
    size: int = 0  # bytes of an event that is to be batched; 0: it is not
    events: int = 1  # those of the batch that the execution runs for, or its event was in
    batch: str = ""  # ID of the execution that first ran for them; empty: it ran for its own event

    def pack(self) -> str:
        """Return them as text, for storage."""
        return orjson.dumps([*self]).decode()

    @classmethod
    def unpack(cls, packed: str | bytes) -> ShapingKeys:
        return cls(*orjson.loads(packed))

    def without_group(self) -> ShapingKeys:
        return self._replace(group="", size=0)

    def batched(self, revision: int, size: int) -> ShapingKeys:
        """Return the keys of an event of a flow that batches them: a batch has events of one revision of the flow."""
        return self._replace(group=f"{revision} {self.group}", size=max(size, 1)) if self.group else self


UNSHAPED: Final = ShapingKeys()
_ALL: Final = '${ "all" }'  # the key of a flow that batches its events without regard to one


def rate_fingerprint(flow_id: str, key: str) -> bytes:
    """Return what the line of a rate is stored under: not its key, which may be somebody's address."""
    return hashlib.blake2b(f"{flow_id}\0{key}".encode(), digest_size=16, person=b"rate").digest()


def shaping_expressions(execution: Mapping[str, Any]) -> dict[str, str]:
    """Return the expressions of keys in the `execution` of a checked flow file, by the names of `ShapingKeys`."""
    found: dict[str, str] = {}
    for name, limit in (("rate", "rate"), ("concurrency", "concurrency"), ("group", "debounce"), ("group", "batch")):
        value = execution.get(limit)
        if isinstance(value, Mapping) and value.get("key") is not None:
            found[name] = value["key"]
        elif limit == "batch" and value is not None:
            found[name] = _ALL
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
        return ShapingKeys(keys.get("rate", ""), keys.get("concurrency", ""), priority, keys.get("group", ""))


def read_priority(text: str) -> int:
    """Return the priority that a value amounts to: that of a number is the nearest one there is, of all else 0."""
    try:
        return min(max(int(float(text)), 0), MAX_PRIORITY)
    except (ValueError, OverflowError):
        return 0
