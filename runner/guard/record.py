"""The shared record: what the child is at right now, readable while the child is frozen in it.

A few fields in shared memory (a file without a name: a memfd on Linux, a temporary one elsewhere), written by the child
around each evaluation of an expression, each step that a call takes between two awaits, and each body that is read, and
looked at by the parent every few milliseconds. Layout, native byte order::

    0   u64  sequence     activities begun so far
    8   u64  started      CLOCK_MONOTONIC in ns when the latest one began; 0: none is under way
    16  u64  beat         CLOCK_MONOTONIC in ns when the child's event loop last ran
    24  u8   length of lease, then 64 bytes of lease
    90  u8   which `Activity` it is
    96  u16  length of instance, then at most 414 bytes of JSON Pointer
    512 u8   length of flow ID, then at most 127 bytes of it

The child is the only writer, and single-threaded where it writes. `started` is written last when something begins and
first when it ends, so that whoever sees it set sees the fields that belong to it.
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
_SEQUENCE, _STARTED, _BEAT, _LEASE, _ACTIVITY, _INSTANCE, _FLOW = 0, 8, 16, 24, 90, 96, 512


class Activity(IntEnum):
    """What a child may be at."""

    EXPRESSION = 0
    """The evaluation of an expression, or of a schema."""
    STEP = 1
    """A step of a call."""
    BODY = 2
    """The body of an event is read: parsed, hashed, encoded."""
    INPUT = 3
    """What was read of it in a process apart is taken in, which can be done nowhere else."""


_ACTIVITIES: Final = {int(each): each for each in Activity}


class Evaluation(NamedTuple):
    """What the record said at one moment.

    Attributes:
        sequence: number of what it is at; grows by one with each.
        started_ns: when it began (CLOCK_MONOTONIC); 0 when nothing is under way.
        beat_ns: when the child's event loop last ran; 0 before it ever did.
        lease: on whose behalf; empty outside of a lease.
        instance: JSON Pointer of the task, or of what of the flow it is for.
        activity: what kind it is of.
        flow_id: ID of the flow; empty outside of a lease.
    """

    sequence: int
    started_ns: int
    beat_ns: int
    lease: bytes
    instance: str
    activity: Activity = Activity.EXPRESSION
    flow_id: str = ""

    @property
    def is_step(self) -> bool:
        """Whether it is a step of a call."""
        return self.activity is Activity.STEP


class Record:
    """Either end of the shared memory. Never blocks."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Open the record behind `descriptor`, which is closed with the record; absent: make a new one."""
        self.descriptor = _new_file() if descriptor is None else descriptor
        self._memory = mmap.mmap(self.descriptor, SIZE)
        self._sequence = 0

    def assign(self, lease: bytes, flow_id: str = "") -> None:
        """Say on whose behalf the following evaluations are (child)."""
        memory, flow = self._memory, flow_id.encode()[: limits.MAX_FLOW_ID_LENGTH]
        memory[_LEASE] = len(lease)
        memory[_LEASE + 1 : _LEASE + 1 + len(lease)] = lease
        memory[_FLOW : _FLOW + 1 + len(flow)] = len(flow).to_bytes(1, "little") + flow

    def begin(self, instance: str, activity: Activity = Activity.EXPRESSION) -> int:
        """Say that something begins for the task at `instance`; returns when (child)."""
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
        """Say that it is over (child)."""
        _U64.pack_into(self._memory, _STARTED, 0)

    def beat(self) -> None:
        """Say that the event loop runs (child)."""
        _U64.pack_into(self._memory, _BEAT, time.monotonic_ns())

    def read(self) -> Evaluation:
        """Return what the record says (parent). A torn read shows another sequence the next time."""
        memory = self._memory
        sequence, started, beat = _NUMBERS.unpack_from(memory, 0)
        length = min(memory[_LEASE], MAX_LEASE_BYTES)
        lease = memory[_LEASE + 1 : _LEASE + 1 + length]
        length = min(int.from_bytes(memory[_INSTANCE : _INSTANCE + 2], "little"), MAX_INSTANCE_BYTES)
        instance = memory[_INSTANCE + 2 : _INSTANCE + 2 + length].decode(errors="ignore")
        length = min(memory[_FLOW], limits.MAX_FLOW_ID_LENGTH)
        flow_id = memory[_FLOW + 1 : _FLOW + 1 + length].decode(errors="ignore")
        return Evaluation(sequence, started, beat, lease, instance, _ACTIVITIES[memory[_ACTIVITY]], flow_id)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        os.close(self.descriptor)


def _new_file() -> int:
    """Return a descriptor of a new file of `SIZE` bytes that has no name and goes with its last descriptor."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("flowhook-guard")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, SIZE)
    return descriptor
