"""The bounded send queue of an attached runner.

Messages queued during a write are sent together, so that messages grow with the load. A runner whose queue is full gets
no more work until it has read some of it (back-pressure). A runner that leaves too many revocations unread is
disconnected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, TypeVar

from flowhook import limits
from flowhook.errors import ExhaustedError, FlowhookError
from flowhook.send_pacing import SendPacer
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert
from router.dispatch.runner_port import EventDelivery, RunnerAssignment

MAX_BATCH_BYTES: Final = limits.MAX_MESSAGE_BYTES // 4
"""Bytes of payloads and journals in one message, and of messages in one bundle; a larger assignment is sent alone."""

MAX_UNSENT_BYTES: Final = 16 * limits.MIB
"""Bytes of payloads and journals that may be queued before a runner gets no more work."""

MAX_UNSENT_TOKENS: Final = 64 * 1024
"""Revoked leases that may be queued for each reason; a runner holds a few thousand leases at most."""


class AttachWriter:
    """One attached runner, as the shard runtime uses it; implements `RunnerPort`."""

    def __init__(
        self,
        runner_id: str,
        on_room: Callable[[], None] = lambda: None,
        *,
        under_way: Callable[[], int] = lambda: 0,
        bundles: bool = False,
    ) -> None:
        """Queue messages for a runner.

        Args:
            runner_id: the runner's ID.
            on_room: called when the queue is no longer `full`.
            under_way: returns the number of executions the runner works on.
            bundles: whether the runner accepts several messages bundled in one.
        """
        self._runner_id = runner_id
        self._pace = SendPacer(under_way)
        self._bundles = bundles
        self._on_room = on_room
        self._assignments: list[pb.Assignment] = []
        self._arrivals: list[pb.Arrival] = []
        self._acknowledged: dict[bytes, tuple[int, int]] = {}
        self._wanted: Collection[str] | None = None
        self._settled: list[bytes] = []
        self._revoked: dict[str, list[bytes]] = {}
        self._renewed: int | None = None
        self._drain: float | None = None
        self._unsent_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._woken = asyncio.Event()
        self._ending = False
        self.error: FlowhookError | None = None
        self.closed = asyncio.Event()
        self.gone = asyncio.Event()
        """Set when everything the runner sent is recorded, and its stream has ended."""

    @property
    def runner_id(self) -> str:
        """Unique among runners."""
        return self._runner_id

    @property
    def full(self) -> bool:
        """Whether so much is queued that no more work should be assigned for now."""
        return self._unsent_bytes >= MAX_UNSENT_BYTES

    async def room(self) -> None:
        """Wait until the queue is not `full`, or is closed."""
        await self._room.wait()

    def assign(self, deliveries: Sequence[RunnerAssignment], *, urgent: bool = False) -> None:
        """Queue assignments."""
        for token, attempt, revision, payload, journal, journal_start, effect_scope in deliveries:
            assignment = pb.Assignment(lease=token, attempt=attempt, flow_revision=revision, event=payload)
            self._unsent_bytes += len(payload)
            if journal:
                assignment.journal.extend(convert.journal_entry_to_proto(entry) for entry in journal)
                assignment.journal_start = journal_start
                self._unsent_bytes += sum(len(entry.output or b"") for entry in journal)
            if effect_scope:
                assignment.effect_scope = effect_scope
            self._assignments.append(assignment)
        self._fill()
        self._wake(urgent=urgent)

    def hand_over(self, arrival: EventDelivery, *, urgent: bool = False) -> None:
        """Queue the delivery of an event to a running execution; each execution has at most one at a time."""
        token, generation, number, entry = arrival
        message = pb.Arrival(
            lease=token, generation=generation, number=number, entry=convert.journal_entry_to_proto(entry)
        )
        self._unsent_bytes += len(entry.output or b"")
        self._arrivals.append(message)
        self._fill()
        self._wake(urgent=urgent)

    def acknowledge(self, token: bytes, position: int, number: int = 0, *, urgent: bool = False) -> None:
        """Acknowledge durable checkpoints of an execution: journal entries, and those without an entry."""
        known = self._acknowledged.get(token)
        self._acknowledged[token] = (
            (position, number) if known is None else (max(position, known[0]), max(number, known[1]))
        )
        self._wake(urgent=urgent)

    def want(self, types: Collection[str]) -> None:
        """Queue the types of lifecycle events that have subscribers and that only runners can report."""
        self._wanted = types
        self._wake(urgent=False)

    def settle(self, tokens: Sequence[bytes]) -> None:
        """Acknowledge durable outcomes."""
        self._settled += tokens
        self._woken.set()

    def revoke(self, tokens: Sequence[bytes], reason: str) -> None:
        """Queue the revocation of leases."""
        unsent = self._revoked.setdefault(reason, [])
        unsent.extend(tokens)
        if len(unsent) > MAX_UNSENT_TOKENS:
            self._revoked = {}
            self.close(ExhaustedError("the runner does not read what it is told", reason="RUNNER_DEAF"))
        self._woken.set()

    def renewed(self, stamp: int) -> None:
        """Report that leases are renewed as of `stamp`, a time of the runner's own clock; only the last one is sent."""
        self._renewed = stamp
        self._wake(urgent=True)

    def drain(self, grace: float) -> None:
        """Announce that this router stops in `grace` seconds."""
        self._drain = grace
        self._wake(urgent=True)

    def close(self, error: FlowhookError) -> None:
        """End the stream with an error once queued messages are sent."""
        self.error = self.error or error
        self.closed.set()
        self.end()

    def end(self) -> None:
        """End the stream once queued messages are sent."""
        self._ending = True
        self._room.set()
        self._wake(urgent=True)

    async def send(self, write: Callable[[pb.AttachResponse], Awaitable[None]]) -> None:
        """Send queued messages, until the end."""
        while True:
            await self._woken.wait()
            await self._pace.turn()
            unsent = self._unsent_bytes
            messages = self._take()
            if self._bundles and len(messages) > 1 and _size(messages) <= MAX_BATCH_BYTES:
                messages = [pb.AttachResponse(bundle=pb.ResponseBundle(responses=messages))]
            for message in messages:
                await write(message)
            was_full = self.full
            self._unsent_bytes -= unsent
            if was_full and not self.full:
                self._room.set()
                self._on_room()
            if self._ending and not self._woken.is_set():
                return

    def _fill(self) -> None:
        """Make `room` wait when the queue is full; not while ending, as there will be no more room."""
        if self.full and not self._ending:
            self._room.clear()

    def _wake(self, *, urgent: bool) -> None:
        if urgent:
            self._pace.expedite()
        self._woken.set()

    def _take(self) -> list[pb.AttachResponse]:
        """Remove everything from the queue and return it as messages."""
        self._woken.clear()
        messages: list[pb.AttachResponse] = []
        if self._wanted is not None:
            messages.append(pb.AttachResponse(interest=pb.Interest(event_types=sorted(self._wanted))))
            self._wanted = None
        if self._settled:
            messages.append(pb.AttachResponse(settlement=pb.Settlement(leases=self._settled)))
            self._settled = []
        if self._acknowledged:
            durable = [
                pb.DurableCheckpoint(lease=lease, index=index, number=number)
                for lease, (index, number) in self._acknowledged.items()
            ]
            messages.append(pb.AttachResponse(checkpointed=pb.CheckpointAck(checkpoints=durable)))
            self._acknowledged = {}
        if self._arrivals:
            arrivals, self._arrivals = self._arrivals, []
            messages += [pb.AttachResponse(arrivals=pb.ArrivalBatch(arrivals=batch)) for batch in _batches(arrivals)]
        if self._assignments:
            assignments, self._assignments = self._assignments, []
            messages += [
                pb.AttachResponse(assignments=pb.AssignmentBatch(assignments=batch)) for batch in _batches(assignments)
            ]
        # after the assignments: they may contain one that was cancelled at once
        for reason, leases in self._revoked.items():
            messages.append(pb.AttachResponse(revocation=pb.Revocation(leases=leases, reason=reason)))
        self._revoked = {}
        if self._renewed is not None:  # after the revocations: the renewal does not cover those leases
            messages.append(pb.AttachResponse(renewed=pb.Renewed(stamp=self._renewed)))
            self._renewed = None
        if self._drain is not None:
            messages.append(pb.AttachResponse(drain=pb.Drain(grace=convert.duration(self._drain))))
            self._drain = None
        return messages


_Item = TypeVar("_Item", pb.Assignment, pb.Arrival)


def _batches(items: Sequence[_Item]) -> list[list[_Item]]:
    """Split items into batches of at most `MAX_BATCH_BYTES`, or of one larger item."""
    batches: list[list[_Item]] = [[]]
    size = 0
    for item in items:
        its_size = item.ByteSize()
        if batches[-1] and size + its_size > MAX_BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(item)
        size += its_size
    return batches


def _size(messages: Sequence[pb.AttachResponse]) -> int:
    return sum(message.ByteSize() for message in messages)
