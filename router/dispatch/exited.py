"""A runner whose process has ended, for as long as it takes to settle what that process had."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from flowhook.errors import FlowhookError
from router.dispatch.link import Delivery, HandedOver


class ExitedRunner:
    """A `RunnerLink` with nobody at its other end: it never has credit, and what it is told is dropped."""

    full = True

    def __init__(self, runner_id: str) -> None:
        self.runner_id = runner_id

    async def room(self) -> None:
        """Return at once: there is never any room to wait for."""

    def assign(self, deliveries: Sequence[Delivery], *, urgent: bool = False) -> None:
        """Drop it."""

    def hand_over(self, arrival: HandedOver, *, urgent: bool = False) -> None:
        """Drop it."""

    def acknowledge(self, token: bytes, position: int, number: int = 0, *, urgent: bool = False) -> None:
        """Drop it."""

    def want(self, types: Collection[str]) -> None:
        """Drop it."""

    def settle(self, tokens: Sequence[bytes]) -> None:
        """Drop it."""

    def revoke(self, tokens: Sequence[bytes], reason: str) -> None:
        """Drop it."""

    def close(self, error: FlowhookError) -> None:
        """Do nothing: there is no stream."""
