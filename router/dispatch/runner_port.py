"""The interface of an attached runner, and a stand-in for one that has ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import attrs

from flowhook.attach.messages import Assignment, EventDelivery
from flowhook.errors import FlowhookError


class RunnerPort(Protocol):
    """An attached runner. Calls never block and never fail; messages that can't be sent are dropped with the stream.

    `urgent` messages are sent at once, together with all that are queued; others may be batched for some milliseconds.
    """

    @property
    def runner_id(self) -> str:
        """ID of the runner, unique among runners."""
        ...

    @property
    def full(self) -> bool:
        """Back-pressure: whether so much is queued for sending that no more work should be assigned for now."""
        ...

    async def room(self) -> None:
        """Wait until the runner is not `full`, or its stream is closed."""
        ...

    def assign(self, deliveries: Sequence[Assignment], *, urgent: bool = False) -> None:
        """Send assignments."""
        ...

    def hand_over(self, arrival: EventDelivery, *, urgent: bool = False) -> None:
        """Send an event or end to an execution that the runner is running."""
        ...

    def acknowledge(self, token: bytes, position: int, number: int = 0, *, urgent: bool = False) -> None:
        """Acknowledge an execution's journal up to `position`, and checkpoints without an entry up to `number`."""
        ...

    def want(self, types: Collection[str]) -> None:
        """Send the types of lifecycle events to report, of those that only runners can report."""
        ...

    def settle(self, tokens: Sequence[bytes]) -> None:
        """Acknowledge outcomes that are durable."""
        ...

    def revoke(self, tokens: Sequence[bytes], reason: str) -> None:
        """Revoke leases; the reason is `LEASE_LOST`, `EXECUTION_CANCELLED` or `EXECUTION_SUSPENDED`."""
        ...

    def close(self, error: FlowhookError) -> None:
        """End the stream with an error."""
        ...


@attrs.define(eq=False, repr=False)
class ExitedRunner:
    """A runner whose process has ended, while its leases are settled: it never has credit, and drops all messages."""

    full = True

    runner_id: str

    async def room(self) -> None:
        """Return at once: there is no queue to wait for."""

    def assign(self, deliveries: Sequence[Assignment], *, urgent: bool = False) -> None:
        """Drop the message."""

    def hand_over(self, arrival: EventDelivery, *, urgent: bool = False) -> None:
        """Drop the message."""

    def acknowledge(self, token: bytes, position: int, number: int = 0, *, urgent: bool = False) -> None:
        """Drop the message."""

    def want(self, types: Collection[str]) -> None:
        """Drop the message."""

    def settle(self, tokens: Sequence[bytes]) -> None:
        """Drop the message."""

    def revoke(self, tokens: Sequence[bytes], reason: str) -> None:
        """Drop the message."""

    def close(self, error: FlowhookError) -> None:
        """Do nothing: there is no stream."""
