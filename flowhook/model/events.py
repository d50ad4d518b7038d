"""Events: authenticated requests, their bodies, and the replies to them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from flowhook.model.replays import ReplayOrigin
from flowhook.model.times import to_datetime

Headers = tuple[tuple[str, bytes], ...]
"""Header fields in wire order: lower-case name, value without surrounding whitespace."""


class Principal(NamedTuple):
    """An authenticated sender: kind of the credential, and name (never the value) of the secret that matched."""

    scheme: str
    secret: str


class Blob(NamedTuple):
    """A body that is stored separately from its event: opaque ID, size in bytes, SHA-256."""

    id: str
    size: int
    sha256: bytes


class RandomAccess(Protocol):
    """Bytes that can be read in parts, while they are open."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Return a slice; fewer than `size` bytes at the end. Blocking."""
        ...


class Part(NamedTuple):
    """An attachment: a slice of a body. See `flowhook.v1.Part`."""

    offset: int
    size: int
    type: str
    name: str
    field: str
    sha256: bytes


class Origin(IntEnum):
    """Origin of an event; see `flowhook.v1.Event.Origin`."""

    REQUEST = 0
    WORKFLOW = 1
    SCHEDULE = 2
    EVENTS = 3


class Event(NamedTuple):
    """An authenticated request, as persisted and as delivered to runners. See `flowhook.v1.Event`.

    A named tuple rather than a dataclass, because it is faster to create and every request creates one.
    """

    id: str
    flow_id: str
    receive_time_ms: int
    principal: Principal | None
    dedupe_key: str
    method: str
    path: str
    query: str
    content_type: str
    headers: Headers
    body: bytes
    traceparent: str = ""
    order_key: str = ""
    origin: Origin = Origin.REQUEST
    callback: str = ""
    callback_token: str = ""
    depth: int = 0
    body_blob: Blob | None = None
    parts: tuple[Part, ...] = ()
    form: bytes = b""
    rejection_id: str = ""
    replay: ReplayOrigin | None = None
    parent: str = ""
    batch: tuple[Event, ...] = ()

    @property
    def received_at(self) -> datetime:
        """Time at which the request was complete."""
        return to_datetime(self.receive_time_ms)


@dataclass(frozen=True, slots=True)
class Reply:
    """HTTP response that a flow returned. `status` is in [200, 599]; `body` has at most 1 MiB."""

    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        """Parse the body as JSON; raises ValueError if it is none."""
        return json.loads(self.body)


class Correlation(NamedTuple):
    """A value that an event must have: `path` is an expression without `${ }`, `expected` is JSON."""

    path: str
    expected: bytes


class EventFilter(NamedTuple):
    """Condition on events; see `flowhook.v1.EventFilter`. `attributes` are sorted by name."""

    callback: bool
    type: str
    attributes: tuple[tuple[str, str], ...] = ()
    correlations: tuple[Correlation, ...] = ()


class Subscription(NamedTuple):
    """Awaited by an execution: events that pass one of `filters`, or the end of execution `execution_id`.

    `key` is the key of the journal entry that records what was received.
    """

    key: str
    filters: tuple[EventFilter, ...] = ()
    execution_id: str = ""

    @property
    def size(self) -> int:
        """Approximate size in bytes."""
        return (
            len(self.key)
            + len(self.execution_id)
            + sum(
                len(each.type)
                + sum(len(name) + len(value) for name, value in each.attributes)
                + sum(len(path) + len(expected) for path, expected in each.correlations)
                for each in self.filters
            )
        )
