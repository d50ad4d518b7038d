"""The journal of one execution: the entries of earlier attempts, in order, and those that this attempt adds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs
import orjson

from flowhook import limits
from flowhook.events.lifecycle import LifecycleEvent
from flowhook.json import object_of
from flowhook.model import SNAPSHOT_KEY, JournalEntry, Reply, held_results
from runner.interpreter.effects import JournalWrite
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.interpreter.history import TaskHistory

COMPACT_ENTRIES: Final = 100
COMPACT_BYTES: Final = limits.MIB
"""Entries, or bytes in them, after which the journal is compacted at the next opportunity."""

EARLY: Final = b',"early":true}'
"""End of the output of such an entry; the router writes it (`router.dispatch.execution_commands`)."""

DIVERGED: Final = "the journal diverged from the flow"
"""Beginning of the detail of the fault for a journal that does not match the flow."""


@attrs.define(eq=False, repr=False)
class Journal:
    """Reads the existing entries one by one, those before the last snapshot skipped, then appends new ones."""

    _entries: Sequence[JournalEntry] = ()
    history: TaskHistory = attrs.field(factory=lambda: TaskHistory(lambda: 0))  # stored with the next entry
    snapshot: bytes | None = attrs.field(init=False, default=None)  # content of the last entry that compacted
    size: int = attrs.field(init=False, default=0)  # number of entries since the snapshot
    # results that a replay takes over regardless of the order of entries, by key, and not requested yet
    held: dict[str, JournalEntry] = attrs.field(init=False, factory=dict)
    # keys of the outputs that a replay gave to runs of tasks which have not begun yet, by task
    given_outputs: dict[str, list[str]] = attrs.field(init=False, factory=dict)
    writes: list[JournalWrite] = attrs.field(init=False, factory=list)  # new entries that were not taken yet
    lifecycle_events: list[LifecycleEvent] = attrs.field(init=False, factory=list)  # stored with the next entry
    _position: int = attrs.field(init=False, default=0)
    _bytes: int = attrs.field(init=False, default=0)
    _postponed_at: tuple[int, int] = attrs.field(init=False, default=(0, 0))
    # how many runs the tasks of `given_outputs` have had since the snapshot
    _runs: dict[str, int] = attrs.field(init=False, factory=dict)
    _only_these: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        if self._entries:
            # A journal in, and what becomes of it:
            #     /do/0/a#0     1    in the snapshot, so it is not read again
            #     (snapshot)         the state after a
            #     /do/2/c#0     3    read, in order: the flow must request it next
            #     held /do/1/b#0     used by its key whenever the flow requests b; its place says nothing
            self._entries, self.held = held_results.split_held(self._entries)
            for index, entry in enumerate(self._entries):
                if entry.key == SNAPSHOT_KEY:
                    self.snapshot = entry.output
                    self._position = index + 1
            self._only_these = self.held.pop(held_results.ONLY_THESE, None) is not None
            present = (*self._entries[self._position :], *self.held.values())
            self._add_given_outputs(entry.key for entry in present)
            self.size = len(present)
            self._bytes = sum(map(_size, present))

    @property
    def next(self) -> JournalEntry | None:
        """The entry to read next; None when all are read."""
        return self._entries[self._position] if self._position < len(self._entries) else None

    @property
    def replaying(self) -> bool:
        return self._position < len(self._entries)

    @property
    def needs_compaction(self) -> bool:
        entries, size = self._postponed_at
        return self.size >= entries + COMPACT_ENTRIES or self._bytes >= size + COMPACT_BYTES

    def read(self) -> None:
        self._position += 1

    def write(
        self, entry: JournalEntry, *, binding: bool = True, reply: Reply | None = None, consumed: int = 0
    ) -> None:
        """Append an entry; see `effects.JournalWrite` for the other arguments."""
        self.size += 1
        self._bytes += _size(entry)
        events = self.take_lifecycle_events() if self.lifecycle_events else ()
        self.writes.append(JournalWrite(entry, False, binding, reply, consumed, events, self.history.drain()))

    def compact(self, snapshot: bytes) -> None:
        self.snapshot = snapshot
        self.size = self._bytes = 0
        self._runs.clear()
        self._postponed_at = (0, 0)
        entry, events = JournalEntry(SNAPSHOT_KEY, snapshot), self.take_lifecycle_events()
        self.writes.append(JournalWrite(entry, compacts=True, lifecycle_events=events, history=self.history.drain()))

    def take_lifecycle_events(self) -> tuple[LifecycleEvent, ...]:
        events, self.lifecycle_events = tuple(self.lifecycle_events), []
        return events

    def hold(self, results: Iterable[JournalEntry]) -> None:
        """Hold results from a snapshot, except those that were requested since, or that a replay does not take over."""
        if self._only_these:
            return
        used = (entry.key for entry in self._entries[self._position :] if entry.error is None)
        since = set(map(held_results.unused_key, used))
        held = {entry.key: entry for entry in results if held_results.unused_key(entry.key) not in since}
        self.held.update(held)
        self._add_given_outputs(held)

    def take_given_output(self, task: str, number: int) -> str | None:
        """Remove and return the key of the output that a replay gave to a run of a task; None: it gave none.

        `number` is that of the run among all task runs.
        """
        given = self.given_outputs.get(task)
        if given is None:
            return None
        run = self._runs.get(task, 0)
        self._runs[task] = run + 1
        due = (each for each in given if held_results.is_due(each, number, run))
        key = max(due, key=held_results.number_of, default=None)
        if key is None:
            return None
        given.remove(key)
        if not given:
            del self.given_outputs[task]
        used = held_results.used_output_key(key, run)
        if key in self.held:
            self.held[used] = dataclasses.replace(self.held.pop(key), key=used)
        return used

    def _add_given_outputs(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key.endswith(held_results.GIVEN_OUTPUT):
                self.given_outputs.setdefault(key.rpartition("#")[0], []).append(key)

    def postpone_compaction(self) -> None:
        """Record that compaction failed: `needs_compaction` is false until the journal has grown as much again."""
        self._postponed_at = (self.size, self._bytes)

    def check(self, instance: str, more: int = 1) -> None:
        """Raise a TaskFault (`runtime`) unless there is room for `more` entries."""
        if self.size + more > limits.MAX_JOURNAL_ENTRIES or self._bytes >= limits.MAX_JOURNAL_BYTES:
            raise fault(
                Kind.RUNTIME,
                f"the journal is full: between two compactions at most {limits.MAX_JOURNAL_ENTRIES} entries (calls, "
                f"waits, retries), and {limits.MAX_JOURNAL_BYTES} bytes of results, are allowed",
                instance=instance,
            )


def _size(entry: JournalEntry) -> int:
    return len(entry.key) + (len(entry.output or b"") if entry.error is None else entry.error.size)


def pointer_of(key: str) -> str:
    return key.partition("#")[0].partition("[")[0]


def time_entry(key: str, what: str, moment: int) -> JournalEntry:
    """Return an entry that holds a time (Unix milliseconds) of the kind `what`: `now`, `until` or `over`."""
    return JournalEntry(key, orjson.dumps({what: moment}))


def holds_time(entry: JournalEntry, what: str) -> bool:
    return (entry.output or b"").startswith(b'{"%b"' % what.encode())


def ends_early(entry: JournalEntry) -> bool:
    """Whether the router ended the wait that an entry is about. Then it may be over for another reason by now.

    It does so for an operator, or because the destination is up. Several waits are ended at once: a race that the first
    one decides may cancel the others.
    """
    return holds_time(entry, "over") and (entry.output or b"").endswith(EARLY)


def time_of(entry: JournalEntry, what: str) -> int:
    """Return the time of the kind `what` that an entry holds; raises a TaskFault if it holds none."""
    try:
        return int(orjson.loads(entry.output or b"")[what])
    except (KeyError, TypeError, ValueError):
        raise _of_another_kind(entry) from None


def event_of(entry: JournalEntry) -> dict[str, Any]:
    """Return the event that an entry holds; raises a TaskFault if it holds none."""
    event = object_of(entry.output or b"")
    if event is None:
        raise _of_another_kind(entry)
    return event


def _of_another_kind(entry: JournalEntry) -> TaskFault:
    return diverged(entry.key, f"{entry.key} is of another kind in the journal")


def diverged(key: str, detail: str) -> TaskFault:
    """Return the fault for a journal that does not match the flow."""
    return fault(Kind.RUNTIME, f"{DIVERGED}: {detail}", instance=pointer_of(key))
