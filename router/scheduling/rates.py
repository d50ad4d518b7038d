"""Rates of flows: how many of their executions are assigned within a time. Those that are too early form lines.

There is a line for each flow that has a rate, or for each of its keys. Only the first of a line may be ready; when it
is assigned, the time is set from which the next one may be, by the generic cell rate algorithm (GCRA): each assignment
moves the line's *arrival time* on by one interval, and none is made before that time less the tolerance, which is what
a burst needs. With an interval of 20 ms and no tolerance:

    assigned at 100.000 -> arrival time 100.020: the next one is ready then
    assigned at 100.035, as no runner was free before -> 100.040, not 100.055: what is late by less than `LATENESS` is
    made up for

So within any t seconds a line has at most burst + (t + `LATENESS`) / interval assignments. Lines whose next time lies
ahead are in one heap. One that is empty is forgotten at its arrival time: from then on it says nothing.

A restart must not begin anew with a full burst. A new line begins as if `AHEAD` seconds of assignments had just been
made, as far as its rate and its burst allow so much; one that can be further ahead than that has *reserved*, in
storage, a time that its arrival time does not pass before a later one is reserved.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from flowhook import limits
from flowhook.events.keys import UNSHAPED, ShapingKeys, rate_fingerprint
from router.scheduling.lines import WaitingLine, positions

ROUNDING: Final = 1e-6  # seconds by which two times may differ that are meant to be the same
LATENESS: Final = 0.05  # seconds by which an assignment may be late without moving those after it
AHEAD: Final = 1.0  # seconds of assignments that are reserved together
MIN_STALE: Final = 1024  # stale entries the heap may hold, besides one for each line, before it is rebuilt
MAX_POSITION: Final = 10_000  # places of a line that are counted when somebody asks for one
MAX_RELEASED: Final = 1000  # lines that one call of `release` looks at, so that it takes no longer than 10 ms


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """How often executions are assigned: `limit` within `per` seconds, evenly; up to `burst` of them at once."""

    limit: int
    per: float
    burst: int = 1
    keyed: bool = False  # whether there is a line for each key, rather than one for the flow

    @property
    def interval(self) -> float:
        return self.per / self.limit

    @property
    def tolerance(self) -> float:
        return (self.burst - 1) * self.interval

    @property
    def reserves(self) -> bool:
        """Whether assignments have to be reserved, as they can be further ahead than a restart makes up for."""
        return self.tolerance + self.interval > AHEAD


class RateWait(NamedTuple):
    """What an execution waits for that is in a line."""

    until: float | None  # when it is expected to be its turn, on the clock of the core; None: it is too far back
    position: int | None  # its place in the line, from 1; None: beyond `MAX_POSITION`


@dataclass(slots=True, eq=False)
class RateLine:
    """One line; it is in the heap if it has a `due` time."""

    flow_id: str
    key: str
    rate: RatePolicy
    arrival: float  # theoretical arrival time of the next assignment, on the clock of the core
    reserved: float  # time that is stored, and that `arrival` has not passed for any assignment that was sent
    waiting: WaitingLine
    ready: int | None = None  # the one that may be assigned
    due: float | None = None
    is_new: bool = False  # whether it has to be timed at the next `release`

    def __lt__(self, other: RateLine) -> bool:  # for the heap, between lines of the same time
        return id(self) < id(other)

    def __iter__(self) -> Iterator[int]:
        return iter(self.waiting) if self.ready is None else chain((self.ready,), self.waiting)

    @property
    def id(self) -> tuple[str, str]:
        return self.flow_id, self.key

    @property
    def needs_reservation(self) -> bool:
        return self.arrival > self.reserved and self.rate.reserves


class RateLines:
    """The lines of a shard. `keys` has the keys of executions; those without one share a line."""

    def __init__(self, keys: Mapping[int, ShapingKeys]) -> None:
        self._keys = keys
        self._lines: dict[tuple[str, str], RateLine] = {}
        self._of_flow: dict[str, dict[str, RateLine]] = {}
        self._line_of: dict[int, RateLine] = {}
        self._heap: list[tuple[float, RateLine]] = []
        self._new: list[RateLine] = []
        self._began = float("-inf")
        self._stored: Mapping[bytes, float] = {}
        self.unreserved: dict[int, RateLine] = {}  # assigned executions that may be sent once more time is reserved

    def __bool__(self) -> bool:
        """Whether `release` may have something to do."""
        return bool(self._heap or self._new)

    def __contains__(self, seq: int) -> bool:
        return seq in self._line_of

    def begin(self, now: float, stored: Mapping[bytes, float] = {}) -> None:
        """Begin after a start; `stored` are reserved times by fingerprint, on the clock of the core."""
        self._began, self._stored = now, dict(stored)

    def of_flow(self, flow_id: str) -> int:
        return len(self._of_flow.get(flow_id, ()))

    def has_room(self, flow_id: str, key: str) -> bool:
        """Whether a flow has a line for a key, or may have one more; its share is smaller while there are too many."""
        share = limits.MAX_RATE_KEYS
        if len(self._lines) >= limits.MAX_ALL_RATE_KEYS:
            share = min(share, limits.MAX_ALL_RATE_KEYS // len(self._of_flow))
        return self.of_flow(flow_id) < share or (flow_id, key) in self._lines

    def enter(self, seq: int, flow_id: str, rate: RatePolicy, *, first: bool = False) -> None:
        """Add an execution at the end of its line, or before the others that wait there."""
        key = self._keys.get(seq, UNSHAPED).rate if rate.keyed else ""
        line = self._lines.get((flow_id, key)) or self._new_line(flow_id, key, rate)
        line.rate = rate
        self._line_of[seq] = line
        if first:
            line.waiting.appendleft(seq)
        else:
            line.waiting.append(seq)
        if line.ready is None and len(line.waiting) == 1:
            self._time_anew(line)

    def set_rate(self, flow_id: str, rate: RatePolicy) -> None:
        """Hold what waits in the lines of a flow to another rate, which has a key if the earlier one had."""
        for line in self._of_flow.get(flow_id, {}).values():
            line.rate = rate
            if line.waiting and line.ready is None:
                self._time_anew(line)

    def _time_anew(self, line: RateLine) -> None:
        if not line.is_new:
            line.is_new = True
            self._new.append(line)

    def _new_line(self, flow_id: str, key: str, rate: RatePolicy) -> RateLine:
        reserved = self._stored.get(rate_fingerprint(flow_id, key), self._began) if self._stored else self._began
        arrival = max(reserved, self._began + min(rate.interval + rate.tolerance, AHEAD))
        line = self._lines[flow_id, key] = RateLine(flow_id, key, rate, arrival, reserved, WaitingLine(self._keys))
        self._of_flow.setdefault(flow_id, {})[key] = line
        return line

    def release(self, now: float) -> list[tuple[str, int]]:
        """Return executions whose time has come since the last call, with their flows.

        Those of `MAX_RELEASED` lines at most; the others are left to the next call, for which `next` says it is time.
        """
        new = self._new[:MAX_RELEASED]
        del self._new[:MAX_RELEASED]
        for line in new:
            line.is_new = False
            # idle lines gain nothing beyond their burst; and no line owes more than its present rate may, whatever an
            # earlier rate or another clock has left it with
            line.arrival = min(max(line.arrival, now), now + line.rate.tolerance + line.rate.interval)
            self._time(line)
        released: list[tuple[str, int]] = []
        if self._new:  # each is timed before anything of its line is ready
            return released
        for _ in range(MAX_RELEASED):
            if not self._heap or self._heap[0][0] > now + ROUNDING:
                break
            due, line = heapq.heappop(self._heap)
            if line.due != due:
                continue  # an entry from before it was timed anew
            line.due = None
            if line.waiting:
                released.append((line.flow_id, self._open(line)))
            elif line.ready is None:
                self._forget(line)
        return released

    def assigned(self, seq: int, now: float) -> int | None:
        """Remove an execution that is assigned; return the next of its line if its time has come, too."""
        line = self._line_of.pop(seq, None)
        if line is None or line.ready != seq:
            return None
        line.ready = None
        line.arrival = max(line.arrival, now - LATENESS) + line.rate.interval
        if line.needs_reservation:
            self.unreserved[seq] = line
        if line.waiting and line.arrival - line.rate.tolerance <= now + ROUNDING:
            return self._open(line)
        self._time(line)
        return None

    def remove(self, seq: int) -> bool:
        """Remove an execution that is not ready; false when there is none. Linear in its line."""
        line = self._line_of.get(seq)
        if line is None or line.ready == seq:
            return False
        line.waiting.remove(seq)
        del self._line_of[seq]
        if not line.waiting and line.ready is None:
            self._time(line)
        return True

    def withdrawn(self, seq: int) -> None:
        """Let the next of a line have the place of one that was ready, and is not assigned."""
        line = self._line_of.pop(seq, None)
        if line is not None and line.ready == seq:
            line.ready = None
            self._time(line)

    def refund(self, seq: int, flow_id: str) -> None:
        """Take an assignment back that no runner has received."""
        key = self._keys.get(seq, UNSHAPED).rate
        line = self._lines.get((flow_id, key)) or self._lines.get((flow_id, ""))
        if line is not None:
            self.unreserved.pop(seq, None)
            line.arrival -= line.rate.interval
            if line.ready is None:
                self._time(line)

    def drain(self, flow_id: str) -> Iterator[int]:
        """Remove all executions that wait in the lines of a flow, one at a time; meanwhile none may enter."""
        for line in list(self._of_flow.get(flow_id, {}).values()):
            while line.waiting:
                seq = line.waiting.popleft()
                del self._line_of[seq]
                yield seq
            if line.ready is None and self._lines.get(line.id) is line:  # else it was forgotten meanwhile
                self._time(line)

    def next(self) -> float | None:
        """Return when `release` has something to do, or None."""
        if self._new:
            return float("-inf")
        while self._heap and self._heap[0][1].due != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    # --- reservations -------------------------------------------------------------------------------------------------

    def reserve(self, seqs: Iterable[int]) -> list[tuple[RateLine, float]]:
        """Return the lines that some assigned executions need more time of, and until when; call `reserved` next."""
        lines = {id(line): line for seq in seqs if (line := self.unreserved.get(seq)) is not None}
        return [(line, line.arrival + AHEAD) for line in lines.values()]

    def reserved(self, seqs: Iterable[int], until: Iterable[tuple[RateLine, float]]) -> None:
        """Record what is durable now."""
        for line, time in until:
            line.reserved = max(line.reserved, time)
        for seq in seqs:
            self.unreserved.pop(seq, None)

    # --- queries ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._line_of)

    def first(self, flow_id: str) -> int | None:
        """Return the first that waits in the line of a flow; None if there is none, or one for each key."""
        line = self._lines.get((flow_id, ""))
        return line.waiting[0] if line is not None and line.waiting else None

    def waits(self, seqs: Iterable[int]) -> dict[int, RateWait]:
        """Return what executions wait for, of those that are in a line; in bounded time, whatever their number."""
        found: dict[int, RateWait] = {}
        for line, seq, position in positions(self._line_of, seqs, most=2 * MAX_POSITION, most_of_line=MAX_POSITION):
            until = line.arrival - line.rate.tolerance + (position - 1) * line.rate.interval
            found[seq] = RateWait(until, position) if position else RateWait(None, None)
        return found

    # --- parts --------------------------------------------------------------------------------------------------------

    def _open(self, line: RateLine) -> int:
        line.ready = line.waiting.popleft()
        return line.ready

    def _time(self, line: RateLine) -> None:
        """Put a line into the heap: at the time of its next assignment, or, when it is empty, of its end."""
        due = line.arrival - line.rate.tolerance if line.waiting else line.arrival
        if line.due == due:
            return
        line.due = due
        heapq.heappush(self._heap, (due, line))
        if len(self._heap) > MIN_STALE + 2 * len(self._lines):
            self._heap = [(each.due, each) for each in self._lines.values() if each.due is not None]
            heapq.heapify(self._heap)

    def _forget(self, line: RateLine) -> None:
        flow_id = line.flow_id
        del self._lines[flow_id, line.key]
        del self._of_flow[flow_id][line.key]
        if not self._of_flow[flow_id]:
            del self._of_flow[flow_id]
