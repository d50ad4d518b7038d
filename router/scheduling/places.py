"""Concurrency by key: of the executions of a flow that share a key, only so many have a place at a time.

An execution gets a place before it is ready, and gives it back when it ends, waits or is suspended; if its runner is
lost, it keeps it. Those without a place form a line for each key. After a restart executions that a runner may still
work on have places, even beyond the limit, until that is known (see `recovered`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from flowhook.events.keys import ShapingKeys
from router.scheduling.lines import WaitingLine, positions

MAX_POSITION: Final = 10_000  # executions of all lines that are counted when somebody asks for a place in one


@dataclass(slots=True, eq=False)
class _Key:
    id: tuple[str, str]
    waiting: WaitingLine
    taken: int = 0

    def __iter__(self) -> Iterator[int]:
        return iter(self.waiting)


class KeyedPlaces:
    """The places of all flows of a shard. `keys` has the keys of executions; those without one take no place."""

    def __init__(self, keys: Mapping[int, ShapingKeys]) -> None:
        self._keys = keys
        self._by_flow: dict[str, dict[str, _Key]] = {}
        self._holders: dict[int, _Key] = {}
        self._waiting: dict[int, _Key] = {}

    def __bool__(self) -> bool:
        return bool(self._by_flow)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def enter(self, seq: int, flow_id: str, limit: int, *, first: bool = False) -> bool:
        """Return whether an execution has a place now; else it is in line, `first`: before the others there.

        One that has a place gives it up if there are more than the limit: it is the first in line then.
        """
        key = self._key_of(seq, flow_id)
        if key is None:
            return True
        if seq in self._holders:
            if key.taken <= limit:
                return True
            del self._holders[seq]
            key.taken -= 1
            first = True
        elif key.taken < limit:
            self._take(seq, key)
            return True
        self._waiting[seq] = key
        if first:
            key.waiting.appendleft(seq)
        else:
            key.waiting.append(seq)
        return False

    def take(self, seq: int, flow_id: str) -> None:
        """Give an execution a place, whatever the limit."""
        key = self._key_of(seq, flow_id)
        if key is not None and seq not in self._holders:
            self._take(seq, key)

    def reserve(self, seq: int, flow_id: str, limit: int) -> None:
        """Give an execution a place if one is free; it enters after others that are before it in line."""
        key = self._key_of(seq, flow_id)
        if key is not None and key.taken < limit:
            self.take(seq, flow_id)

    def has_place(self, seq: int, flow_id: str, limit: int) -> bool:
        """Whether an execution has a place, or there is one for it."""
        keys = self._keys.get(seq)
        key = None if keys is None else self._by_flow.get(flow_id, {}).get(keys.concurrency)
        return key is None or seq in self._holders or key.taken < limit

    def leave(self, seq: int, limit: int | None) -> list[int]:
        """Give the place of an execution back, if it has one; return those that have one from then on.

        A limit of None lets all of its key have one: these are removed by `drain`.
        """
        key = self._holders.pop(seq, None)
        if key is None:
            return []
        key.taken -= 1
        admitted: list[int] = []
        while limit is not None and key.waiting and key.taken < limit:
            admitted.append(key.waiting.popleft())
            del self._waiting[admitted[-1]]
            self._take(admitted[-1], key)
        self._forget_if_unused(key)
        return admitted

    def remove(self, seq: int) -> bool:
        """Remove an execution from its line, in time linear in that; false when it is in none."""
        key = self._waiting.pop(seq, None)
        if key is None:
            return False
        key.waiting.remove(seq)
        self._forget_if_unused(key)
        return True

    def drain(self, flow_id: str) -> Iterator[int]:
        """Remove all executions in the lines of a flow, one at a time; meanwhile none may enter."""
        for key in list(self._by_flow.get(flow_id, {}).values()):
            while key.waiting:
                seq = key.waiting.popleft()
                del self._waiting[seq]
                self._forget_if_unused(key)
                yield seq

    def positions(self, seqs: Iterable[int]) -> dict[int, int]:
        """Return the places in line of executions that wait for one, from 1; 0: far back. In bounded time."""
        found = positions(self._waiting, seqs, most=MAX_POSITION, most_of_line=MAX_POSITION)
        return {seq: position for _, seq, position in found}

    def _key_of(self, seq: int, flow_id: str) -> _Key | None:
        keys = self._keys.get(seq)
        if keys is None or not keys.concurrency:
            return None
        of_flow = self._by_flow.setdefault(flow_id, {})
        key = of_flow.get(keys.concurrency)
        if key is None:
            key = of_flow[keys.concurrency] = _Key((flow_id, keys.concurrency), WaitingLine(self._keys))
        return key

    def _take(self, seq: int, key: _Key) -> None:
        key.taken += 1
        self._holders[seq] = key

    def _forget_if_unused(self, key: _Key) -> None:
        if not key.taken and not key.waiting:
            flow_id, name = key.id
            del self._by_flow[flow_id][name]
            if not self._by_flow[flow_id]:
                del self._by_flow[flow_id]
