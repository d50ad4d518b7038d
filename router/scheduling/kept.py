"""Arrivals that nobody waited for, kept for the first execution that will; at most so long.

The mirror of `subscriptions`: who begins to wait finds what it waits for by one lookup for each of its filters. An
arrival's values of a shape are known when its content was at hand after that shape was first looked for; else they are
*unknown*, until the content is read again and `learn` is told. Only shapes that ask for values take that.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Final, NamedTuple

from flowhook.model import Subscription
from router.scheduling.matching import ANY_TYPE, ANYTHING, IncomingEvent, Shape, types_of, wanted
from router.scheduling.subscriptions import Kind

MIN_STALE: Final = 1024
"""Entries of the heap that may be of arrivals that are gone; beyond it as many as there are good ones."""


class Kept(NamedTuple):
    """A kept arrival: its kind, the execution it is for (0: whichever waits first), and until when it is kept.

    `to_all` matters where it is for whichever waits: whether it goes to all that do, or to one of them.
    """

    kind: Kind
    seq: int
    expire_at_ms: int
    to_all: bool = True


class Match(NamedTuple):
    """An arrival for who begins to wait, and the key of the journal entry that it is to be written under."""

    number: int
    key: str


@dataclass(slots=True)
class _Table:
    """Arrivals of one kind by their values of one shape, oldest first; `unknown` are newer than all others."""

    unknown: dict[int, None]
    values: dict[int, bytes | None] = field(default_factory=dict)
    numbers: dict[bytes, dict[int, None]] = field(default_factory=dict)

    def learn(self, number: int, values: bytes | None) -> None:
        self.unknown.pop(number, None)
        self.values[number] = values
        if values is not None:
            self.numbers.setdefault(values, {})[number] = None

    def remove(self, number: int) -> None:
        self.unknown.pop(number, None)
        values = self.values.pop(number, None)
        if values is not None:
            numbers = self.numbers[values]
            del numbers[number]
            if not numbers:
                del self.numbers[values]


@dataclass(slots=True)
class _Kind:
    """All arrivals of one kind, oldest first, and the shapes that were looked for while there were any."""

    numbers: dict[int, None] = field(default_factory=dict)
    tables: dict[Shape, _Table] = field(default_factory=dict)


class KeptArrivals:
    """All of a shard. Arrivals come by ascending number, but for a few that nobody could take after all."""

    def __init__(self) -> None:
        self._arrivals: dict[int, Kept] = {}
        self._kinds: dict[Kind, _Kind] = {}
        self._addressed: dict[int, dict[int, None]] = {}
        self._of_flow: dict[str, int] = {}
        self._expiry: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """Return how many arrivals are kept."""
        return len(self._arrivals)

    def __contains__(self, number: int) -> bool:
        return number in self._arrivals

    def of_flow(self, flow_id: str) -> int:
        """Return how many arrivals of a flow are kept for whichever execution waits first."""
        return self._of_flow.get(flow_id, 0)

    def emitted(self, flow_id: str, *, after: int) -> list[tuple[int, str]]:
        """Return number and type of emitted events that are kept for a flow, oldest first: those after a number."""
        there = self._kinds.get((flow_id, False, ANY_TYPE))
        newest_first = () if there is None else takewhile(lambda number: number > after, reversed(there.numbers))
        return [(number, self._arrivals[number].kind[2]) for number in newest_first][::-1]

    def shapes(self, kind: Kind) -> set[Shape]:
        """Return where values were looked for in what is kept of a kind: so they will be in what is added to it."""
        return {shape for each in _kinds_of(kind) if each in self._kinds for shape in self._kinds[each].tables}

    def concern(self, seq: int, flow_id: str) -> bool:
        """Whether any arrival is kept that an execution may wait for."""
        return flow_id in self._of_flow or seq in self._addressed

    def add(
        self,
        number: int,
        kind: Kind,
        expire_at_ms: int,
        *,
        seq: int = 0,
        to_all: bool = True,
        event: IncomingEvent | None = None,
    ) -> None:
        """Keep an arrival.

        Args:
            number: its own; the older an arrival is, the smaller.
            kind: its flow, whether it is a callback, and its type.
            expire_at_ms: Unix time until which it is kept.
            seq: of the execution that it is for; 0: for whichever waits first.
            to_all: see `Kept`.
            event: its content, when that is at hand.
        """
        self._arrivals[number] = Kept(kind, seq, expire_at_ms, to_all)
        heapq.heappush(self._expiry, (expire_at_ms, number))
        if seq:
            self._addressed.setdefault(seq, {})[number] = None
            return
        self._of_flow[kind[0]] = self._of_flow.get(kind[0], 0) + 1
        for each in _kinds_of(kind):
            there = self._kinds.setdefault(each, _Kind())
            if there.numbers and number < next(reversed(there.numbers)):
                self._kinds[each] = _Kind(dict.fromkeys(sorted([*there.numbers, number])))
                continue
            there.numbers[number] = None
            for shape, table in there.tables.items():
                if event is None or table.unknown:
                    table.unknown[number] = None
                else:
                    table.learn(number, event.values(shape))

    def take(self, number: int) -> Kept | None:
        """Forget an arrival and return what it was; None when it is not here."""
        arrival = self._arrivals.pop(number, None)
        if arrival is not None:
            self._forget(number, arrival)
        return arrival

    def _forget(self, number: int, arrival: Kept) -> None:
        if len(self._expiry) > MIN_STALE + 2 * len(self._arrivals):
            self._expiry = [(each.expire_at_ms, number_) for number_, each in self._arrivals.items()]
            heapq.heapify(self._expiry)
        if arrival.seq:
            addressed = self._addressed[arrival.seq]
            del addressed[number]
            if not addressed:
                del self._addressed[arrival.seq]
            return
        flow_id = arrival.kind[0]
        self._of_flow[flow_id] -= 1
        if not self._of_flow[flow_id]:
            del self._of_flow[flow_id]
        for each in _kinds_of(arrival.kind):
            there = self._kinds[each]
            del there.numbers[number]
            for table in there.tables.values():
                table.remove(number)
            if not there.numbers:
                del self._kinds[each]

    def expire(self, now_ms: int) -> list[int]:
        """Forget the arrivals whose time is over, and return their numbers."""
        expired: list[int] = []
        while self._expiry and self._expiry[0][0] <= now_ms:
            _, number = heapq.heappop(self._expiry)
            if self.take(number) is not None:
                expired.append(number)
        return expired

    def ended(self, seq: int) -> list[int]:
        """Forget the arrivals for an execution that ended, and return their numbers."""
        numbers = list(self._addressed.get(seq, ()))
        for number in numbers:
            self.take(number)
        return numbers

    @property
    def addressed(self) -> int:
        """Executions that an arrival is kept for."""
        return len(self._addressed)

    # --- who begins to wait -----------------------------------------------------------------------------------------

    def unknown(self, flow_id: str, subscriptions: Sequence[Subscription]) -> list[int]:
        """Return the arrivals that `learn` has to be told of, by ascending number, before `oldest` can tell."""
        numbers: set[int] = set()
        for _, kind, shape, _ in _filters(flow_id, subscriptions):
            there = self._kinds.get(kind)
            if there is not None and shape != ANYTHING:
                table = there.tables.setdefault(shape, _Table(dict(there.numbers)))
                numbers.update(table.unknown)
        return sorted(numbers)

    def learn(self, number: int, payload: bytes) -> None:
        """Note the values of an arrival; those of each kind are to be learnt by ascending number."""
        arrival = self._arrivals.get(number)
        if arrival is None:
            return
        flow_id, callback, type_ = arrival.kind
        event = IncomingEvent(flow_id, callback=callback, type_=type_, payload=payload)
        for each in _kinds_of(arrival.kind):
            for shape, table in self._kinds[each].tables.items():
                if next(iter(table.unknown), None) == number:
                    table.learn(number, event.values(shape))

    def oldest(self, seq: int, flow_id: str, subscriptions: Sequence[Subscription]) -> Match | None:
        """Return the oldest arrival that an execution which begins to wait takes; what is unknown is left out.

        Of several subscriptions that take it, it is for the first.
        """
        found: dict[int, str] = {}
        for key, kind, shape, values in _filters(flow_id, subscriptions):
            number = self._oldest_for(seq, kind, shape, values)
            if number is not None:
                found.setdefault(number, key)
        return Match(min(found), found[min(found)]) if found else None

    def _oldest_for(self, seq: int, kind: Kind, shape: Shape, values: bytes) -> int | None:
        numbers = [number for number in self._addressed.get(seq, ()) if kind in _kinds_of(self._arrivals[number].kind)]
        there = self._kinds.get(kind)
        if there is not None and shape == ANYTHING:
            numbers += [next(iter(there.numbers))]
        elif there is not None and shape in there.tables:
            numbers += islice(there.tables[shape].numbers.get(values, ()), 1)
        return min(numbers, default=None)


def _kinds_of(kind: Kind) -> tuple[Kind, ...]:
    """Return the kinds that filters name which take arrivals of a kind."""
    flow_id, callback, type_ = kind
    return tuple((flow_id, callback, each) for each in types_of(type_))


def _filters(flow_id: str, subscriptions: Sequence[Subscription]) -> Iterator[tuple[str, Kind, Shape, bytes]]:
    for key, filters, _ in subscriptions:
        for filter_ in filters:
            yield key, (flow_id, filter_.callback, filter_.type), *wanted(filter_)
