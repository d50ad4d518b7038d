"""The evaluation record: shared memory that shows the child's current activity, even while the child is blocked in it.

It consists of a few fields in an unnamed file (a memfd on Linux, a temporary file elsewhere). The child writes them
around each evaluation of an expression, each step of a call between two awaits, and each body that it parses; the
parent reads them every few milliseconds. Layout, native byte order::

    0   u64  sequence     number of activities started so far
    8   u64  started      CLOCK_MONOTONIC in ns when the latest one started; 0: none is running
    16  u64  beat         CLOCK_MONOTONIC in ns when the child's event loop last ran
    24  u8   length of lease, then 64 bytes of lease
    90  u8   kind of activity (`Activity`)
    92  u8   1: the child rests, having no execution, and so nothing to evaluate
    93  u8   1: the parent, which writes this, looks seldom, and is to be told when the child no longer rests
    96  u16  length of instance, then at most 414 bytes of JSON Pointer
    512 u8   length of flow ID, then at most 127 bytes of it

The child is the only writer, from a single thread, but for the byte that the parent owns. `started` is written last
when an activity begins and first when it ends, so a reader that sees it set also sees the fields that belong to it.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from enum import IntEnum
from typing import Final, NamedTuple

from flowhook import limits

SIZE: Final = 1024
MAX_LEASE_BYTES: Final = 64
MAX_INSTANCE_BYTES: Final = 414
_NUMBERS: Final = struct.Struct("=QQQ")
_U64: Final = struct.Struct("=Q")
_SEQUENCE, _STARTED, _BEAT, _LEASE, _ACTIVITY, _RESTING, _DOZING, _INSTANCE, _FLOW = 0, 8, 16, 24, 90, 92, 93, 96, 512


class Activity(IntEnum):
    """Kinds of activity that the child records."""

    EXPRESSION = 0  # evaluating an expression or a schema
    STEP = 1  # running a step of a call
    BODY = 2  # reading the body of an event: parsing, hashing, encoding
    INPUT = 3  # loading an input that a separate process built from the body; this can't be done in another process


_ACTIVITIES: Final = {int(each): each for each in Activity}


class RecordSnapshot(NamedTuple):
    """A snapshot of the record."""

    sequence: int  # number of the activity; grows by one with each
    started_ns: int  # when it started (CLOCK_MONOTONIC); 0: none is running
    beat_ns: int  # when the child's event loop last ran (CLOCK_MONOTONIC); 0: it never did
    lease: bytes  # of the execution; empty outside of a lease
    instance: str  # JSON Pointer of the task, or of another part of the flow
    activity: Activity = Activity.EXPRESSION  # kind of activity
    flow_id: str = ""  # ID of the flow; empty outside of a lease

    @property
    def is_step(self) -> bool:
        return self.activity is Activity.STEP


class EvaluationRecord:
    """One end of the shared memory. Never blocks."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Open the record at `descriptor`, which is closed with the record; None: create a new one."""
        self.descriptor = _new_file() if descriptor is None else descriptor
        self._memory = mmap.mmap(self.descriptor, SIZE)
        self._sequence = 0

    def assign(self, lease: bytes, flow_id: str = "") -> None:
        """Set the lease and flow of the following activities (child)."""
        memory, flow = self._memory, flow_id.encode()[: limits.MAX_FLOW_ID_LENGTH]
        memory[_LEASE] = len(lease)
        memory[_LEASE + 1 : _LEASE + 1 + len(lease)] = lease
        memory[_FLOW : _FLOW + 1 + len(flow)] = len(flow).to_bytes(1, "little") + flow

    def begin(self, instance: str, activity: Activity = Activity.EXPRESSION) -> int:
        """Record the start of an activity of the task at `instance`; returns its time in ns (child)."""
        memory = self._memory
        text = instance.encode()[:MAX_INSTANCE_BYTES]
        self._sequence += 1
        memory[_ACTIVITY] = activity
        memory[_INSTANCE : _INSTANCE + 2 + len(text)] = len(text).to_bytes(2, "little") + text
        _U64.pack_into(memory, _SEQUENCE, self._sequence)
        began = time.monotonic_ns()
        _U64.pack_into(memory, _STARTED, began)
        return began

    def end(self) -> None:
        """Record the end of the activity (child)."""
        _U64.pack_into(self._memory, _STARTED, 0)

    def beat(self) -> None:
        """Record that the event loop runs (child)."""
        _U64.pack_into(self._memory, _BEAT, time.monotonic_ns())

    def rest(self) -> None:
        """Record that there is nothing to evaluate until `work` is called (child)."""
        self._memory[_RESTING] = 1

    def work(self) -> bool:
        """Record the end of a rest; return whether the parent must be told of it (child)."""
        self._memory[_RESTING] = 0
        return bool(self._memory[_DOZING])

    @property
    def is_resting(self) -> bool:
        return bool(self._memory[_RESTING])

    def doze(self, dozing: bool) -> bool:  # noqa: FBT001 - its only argument
        """Record whether the parent looks seldom; return whether it may, because the child rests (parent)."""
        self._memory[_DOZING] = dozing
        return self.is_resting

    def read(self) -> RecordSnapshot:
        """Return a snapshot (parent). After a torn read the next snapshot has another sequence."""
        # first, or the other fields may be of an earlier activity
        sequence, started, beat = _NUMBERS.unpack_from(self._memory, 0)
        lease = self._read_text(_LEASE, 1, MAX_LEASE_BYTES)
        instance = self._read_text(_INSTANCE, 2, MAX_INSTANCE_BYTES).decode(errors="ignore")
        flow_id = self._read_text(_FLOW, 1, limits.MAX_FLOW_ID_LENGTH).decode(errors="ignore")
        activity = _ACTIVITIES[self._memory[_ACTIVITY]]
        return RecordSnapshot(sequence, started, beat, lease, instance, activity, flow_id)

    def _read_text(self, start: int, width: int, most: int) -> bytes:
        """Return the bytes behind a length of `width` bytes."""
        length = int.from_bytes(self._memory[start : start + width], "little")
        return self._memory[start + width : start + width + min(length, most)]

    def close(self) -> None:
        self._memory.close()
        os.close(self.descriptor)


def _new_file() -> int:
    """Return the descriptor of a new unnamed file of `SIZE` bytes, deleted with its last descriptor."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("flowhook-guard")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, SIZE)
    return descriptor
