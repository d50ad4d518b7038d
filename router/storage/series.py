"""Series: numbers of executions over time, of all flows together and of each, at falling resolution.

What was counted is in one row at a time. It enters the row of its minute, and moves on to rows of longer steps as it
grows old, in the transaction that removes it from the former: so nothing is counted twice or lost, whenever a router
ends. Rows about the same time add up, so that minutes which a clock that was set back shows again have both.

Counts are summed; of levels (how much was pending, how old that was) the greatest counts. Durations are kept as numbers
by bucket: eight in each doubling, or more, so that a quantile is exact to 7 %, and a histogram with the bounds of the
metrics is exact.
"""

from __future__ import annotations

import asyncio
import operator
import struct
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import apsw
import attrs

from flowhook.model.overview import MINUTE_MS
from flowhook.process.metric_table import OTHER
from router.storage.part import StoragePart, reading
from router.storage.statements import read_counter, write_counter

ALL: Final = ""  # stands for all flows together
MAX_FLOWS: Final = 1000  # flows with series of their own
MAX_MOVED: Final = 500  # rows that one transaction moves or removes
MAX_VISITED: Final = 100  # flows that one transaction looks at for such rows
# upper bounds (s) of the buckets of durations, at most 255: those of metrics, the milliseconds below 8, and eight in
# each doubling from there to 46 days. Rows refer to them by position.
_METRIC_BOUNDS_MS: Final = (5, 25, 100, 250, 1000, 5000, 30_000, 300_000, 3_600_000, 86_400_000)
_EIGHTHS_MS: Final = [(8 + eighth) << exponent for exponent in range(29) for eighth in range(8)]
_BOUNDS_MS: Final = sorted({*range(1, 8), *_EIGHTHS_MS, *_METRIC_BOUNDS_MS})
BOUNDS: Final[tuple[float, ...]] = tuple(each / 1000 for each in _BOUNDS_MS)
MAX_COUNT: Final = (1 << 32) - 1  # in a bucket; in eight hours that would be 149,000 a second
ROW_BYTES: Final = 200
STEP: Final = 500  # flows that are looked at between two turns of the event loop


class Level(NamedTuple):
    """Rows of one step; both in minutes."""

    step: int
    keep: int  # after which they move to the next level; beyond the last, they are removed


# each keeps twice a period of the overview, up to the next step of the level after it
LEVELS: Final = (Level(1, 2 * 60 + 15), Level(15, 50 * 60), Level(2 * 60, 15 * 24 * 60), Level(8 * 60, 61 * 24 * 60))

Durations = dict[int, int]
"""Numbers of durations by bucket: the one at a position of `BOUNDS`, or the last one for all that take longer."""


@attrs.define
class Counted:
    """What was counted of executions in a time, and the greatest levels seen in it."""

    accepted: int = 0
    completed: int = 0
    faulted: int = 0
    cancelled: int = 0
    pending: int = 0
    retrying: int = 0
    oldest_ms: int = 0
    incidents: int = 0
    storage_bytes: int = 0
    waits: Durations = attrs.field(factory=dict)
    latencies: Durations = attrs.field(factory=dict)
    # for metrics, and not stored: events from outside that were accepted, the Unix time (s) of the latest one, and what
    # waits and latencies are together (s)
    received: int = attrs.field(default=0, eq=False)
    received_at: float = attrs.field(default=0.0, eq=False)
    waited: float = attrs.field(default=0.0, eq=False)
    lasted: float = attrs.field(default=0.0, eq=False)

    def total(self) -> int:
        return self.accepted + self.received + self.completed + self.faulted + self.cancelled

    def add(self, other: Counted) -> Counted:
        """Add what was counted in another time, or of another flow; return this."""
        self.accepted += other.accepted
        self.completed += other.completed
        self.faulted += other.faulted
        self.cancelled += other.cancelled
        self.received += other.received
        self.waited += other.waited
        self.lasted += other.lasted
        for name in _LEVELS:
            if (level := getattr(other, name)) > getattr(self, name):
                setattr(self, name, level)
        for mine, theirs in ((self.waits, other.waits), (self.latencies, other.latencies)):
            for bucket, number in theirs.items():
                mine[bucket] = mine.get(bucket, 0) + number
        return self


_LEVELS: Final = ("pending", "retrying", "oldest_ms", "incidents", "storage_bytes", "received_at")
_HEAD: Final = struct.Struct("<9QHH")
_STORED: Final = operator.attrgetter(*(each.name for each in attrs.fields(Counted)[:9]))


class SeriesMark(NamedTuple):
    """Up to where executions are counted in what is stored."""

    seq: int = 0  # the last one that was accepted
    end_time_ms: int = 0  # Unix time; ends at it or later are not counted


def middle_of(bucket: int) -> float:
    """Return the duration (s) in the middle of a bucket."""
    if bucket >= len(BOUNDS):
        return BOUNDS[-1]
    return (BOUNDS[bucket] + (BOUNDS[bucket - 1] if bucket else 0.0)) / 2


def quantile(durations: Mapping[int, int], share: float) -> float | None:
    """Return the duration in seconds that a share of them does not exceed; None: there are none."""
    left = share * sum(durations.values())
    for bucket in sorted(durations):
        left -= durations[bucket]
        if left <= 0:
            return middle_of(bucket)
    return None


def _dump(counted: Counted) -> bytes:
    """Return a row: numbers, buckets of a byte each, and what is in them, so at most 2.7 kB."""
    waits, latencies = counted.waits, counted.latencies
    head = _HEAD.pack(*_STORED(counted), len(waits), len(latencies))
    counts = [min(each, MAX_COUNT) for each in (*waits.values(), *latencies.values())]
    return head + bytes([*waits, *latencies]) + struct.pack(f"<{len(counts)}I", *counts)


def _load(content: bytes) -> Counted:
    *numbers, waits, latencies = _HEAD.unpack_from(content)
    several = waits + latencies
    buckets = content[_HEAD.size : _HEAD.size + several]
    pairs = [*zip(buckets, struct.unpack_from(f"<{several}I", content, _HEAD.size + several), strict=True)]
    counted = Counted(*numbers)
    counted.waits, counted.latencies = dict(pairs[:waits]), dict(pairs[waits:])
    return counted


def _add(connection: apsw.Connection, flow_id: str, level: int, minute: int, counted: Counted) -> None:
    key = (flow_id, level, minute)
    stored = connection.execute("SELECT content FROM series WHERE flow_id = ? AND level = ? AND minute = ?", key).get
    content = _dump(counted if stored is None else _load(stored).add(counted))
    connection.execute(
        "INSERT OR REPLACE INTO series (flow_id, level, minute, content) VALUES (?, ?, ?, ?)", (*key, content)
    )


def _save(connection: apsw.Connection, counted: Mapping[tuple[str, int], Counted], mark: SeriesMark) -> None:
    for (flow_id, minute), each in counted.items():
        _add(connection, flow_id, 0, minute, each)
    for name, value in zip(_MARK, mark, strict=True):
        write_counter(connection, name, value)


_MARK: Final = ("series_seq", "series_end_time_ms")  # names of counters


def _mark(connection: apsw.Connection) -> SeriesMark:
    return SeriesMark(*(read_counter(connection, name) for name in _MARK))


def _flows(connection: apsw.Connection) -> list[str]:
    """Return the flows that have series of their own, in time linear in their number."""
    found, flow_id = [], ALL
    query = "SELECT flow_id FROM series WHERE flow_id > ? ORDER BY flow_id LIMIT 1"
    while (flow_id := connection.execute(query, (flow_id,)).get) is not None:
        if flow_id != OTHER:
            found.append(flow_id)
    return found


def _read(
    connection: apsw.Connection, *, flow_id: str, from_minute: int, until_minute: int, step: int
) -> defaultdict[int, Counted]:
    """Return what was counted of a flow from one minute until before another, by the multiple of `step` before it."""
    rows = connection.execute(
        "SELECT minute, content FROM series WHERE flow_id = ? AND level IN (0, 1, 2, 3) AND minute >= ? AND minute < ?",
        (flow_id, from_minute, until_minute),
    )
    found = defaultdict[int, Counted](Counted)
    for minute, content in rows:
        found[minute - minute % step].add(_load(content))
    return found


def _since(connection: apsw.Connection, from_minute: int) -> list[tuple[str, int, Counted]]:
    """Return what was counted of flows in minutes, by flow and minute, from a minute on."""
    query = "SELECT minute, content FROM series WHERE flow_id = ? AND level = 0 AND minute >= ? ORDER BY minute"
    return [
        (flow_id, minute, _load(content))
        for flow_id in [OTHER, *_flows(connection)]
        for minute, content in connection.execute(query, (flow_id, from_minute))
    ]


def _first_minute(connection: apsw.Connection) -> int | None:
    """Return the Unix time in minutes of the first row about all flows."""
    query = "SELECT minute FROM series WHERE flow_id = ? AND level = ? ORDER BY minute LIMIT 1"
    firsts = [connection.execute(query, (ALL, level)).get for level in range(len(LEVELS))]
    return min((first for first in firsts if first is not None), default=None)


class Aged(NamedTuple):
    """What a call of `age` did."""

    following: str | None  # the flow to go on with, or one after it; None: all were looked at
    removed: list[str]  # flows that are deleted, and have no rows any more


def _age(connection: apsw.Connection, following: str, minute: int) -> Aged:
    """Move rows that have grown old to the next level, and remove those of deleted flows; about `MAX_MOVED`."""
    left = MAX_MOVED
    removed: list[str] = []
    for _ in range(MAX_VISITED):
        flow_id: str | None = connection.execute(
            "SELECT flow_id FROM series WHERE flow_id >= ? ORDER BY flow_id LIMIT 1", (following,)
        ).get
        if flow_id is None:
            return Aged(None, removed)
        if flow_id not in (ALL, OTHER) and not _exists(connection, flow_id):
            connection.execute("DELETE FROM series WHERE flow_id = ?", (flow_id,))
            left -= connection.changes()
            removed.append(flow_id)
        else:
            for level in range(len(LEVELS)):
                left -= _move(connection, flow_id, level, minute, left)
        if left <= 0:
            return Aged(flow_id, removed)  # it may have more
        following = f"{flow_id}\0"
    return Aged(following, removed)


def _exists(connection: apsw.Connection, flow_id: str) -> bool:
    return connection.execute("SELECT 1 FROM flow WHERE flow_id = ? AND NOT deleted", (flow_id,)).get is not None


def _move(connection: apsw.Connection, flow_id: str, level: int, minute: int, limit: int) -> int:
    before = minute - LEVELS[level].keep
    step = LEVELS[level + 1].step if level + 1 < len(LEVELS) else 1
    key = (flow_id, level, before - before % step)
    rows: list[Any] = connection.execute(
        "SELECT minute, content FROM series WHERE flow_id = ? AND level = ? AND minute < ? ORDER BY minute LIMIT ?",
        (*key, max(limit, 0)),
    ).fetchall()
    if not rows:
        return 0
    if level + 1 < len(LEVELS):
        coarse = defaultdict[int, Counted](Counted)
        for at, content in rows:
            coarse[at - at % step].add(_load(content))
        for start, counted in coarse.items():
            _add(connection, flow_id, level + 1, start, counted)
    connection.execute(
        "DELETE FROM series WHERE flow_id = ? AND level = ? AND minute <= ?", (flow_id, level, rows[-1][0])
    )
    return len(rows)


@attrs.define(eq=False, repr=False)
class SeriesLog(StoragePart):
    """The series of a shard, of at most `max_flows` flows; those of others are counted together."""

    max_flows: int = MAX_FLOWS
    _own: set[str] | None = attrs.field(init=False, default=None)

    mark = reading(_mark)
    flows = reading(_flows)
    read = reading(_read)
    since = reading(_since)
    first_minute = reading(_first_minute)

    async def own(self) -> set[str]:
        """Return the flows that have series of their own, to be looked at only."""
        if self._own is None:
            found = set(await self.flows())
            if self._own is None:  # nobody else read them meanwhile, and may have added to them
                self._own = found
        return self._own

    def has_room(self, flow_id: str) -> bool:
        """Whether a flow has series of its own, or would get them."""
        return self._own is None or flow_id in self._own or len(self._own) < self.max_flows

    async def save(self, counted: Mapping[tuple[str, int], Counted], mark: SeriesMark) -> None:
        """Add what was counted of flows in minutes; afterwards everything up to `mark` is stored."""
        own = await self.own()
        found = defaultdict[tuple[str, int], Counted](Counted)
        for number, ((flow_id, minute), each) in enumerate(counted.items()):
            if flow_id not in own and flow_id not in (ALL, OTHER) and len(own) < self.max_flows:
                own.add(flow_id)
            found[flow_id if flow_id in own or flow_id == ALL else OTHER, minute].add(each)
            if number % STEP == STEP - 1:
                await asyncio.sleep(0)
        await self._write(partial(_save, counted=found, mark=mark), size=ROW_BYTES * len(found))

    async def age(self, following: str, now_ms: int) -> str | None:
        """Move rows that have grown old, of some flows by ID, and return where to go on; None: all are done."""
        aged = await self._write(partial(_age, following=following, minute=now_ms // MINUTE_MS))
        if self._own is not None:
            self._own.difference_update(aged.removed)
        return aged.following
