"""Stand-in for a runner whose process has ended, while the leases of that process are settled."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from flowhook.attach.messages import Assignment, EventDelivery
from flowhook.errors import FlowhookError


class ExitedRunner:
    """A `RunnerPort` without a peer: it never has credit, and drops everything it is sent."""

    full = True

    def __init__(self, runner_id: str) -> None:
        self.runner_id = runner_id

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
