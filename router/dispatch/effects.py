"""Effects: requests of a shard runtime's parts to parts above them, as values in one queue.

A part calls only parts below it. What parts above have to do after a change is added here, and one loop
(`ShardRuntime.run`) performs it, in order, on the next turn of the event loop. Effects that are queued when the shard
runtime stops are not performed: nothing depends on them that is not in storage.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from router.scheduling.matching import InboundEvent


@dataclass(frozen=True, slots=True)
class AssignReady:
    """Assign ready executions: there are more of them, or runners can take more."""


@dataclass(frozen=True, slots=True)
class SendWantedTypes:
    """Send runners the types of lifecycle events that are wanted, if these have changed."""


@dataclass(frozen=True, slots=True)
class Redeliver:
    """Deliver an event to other receivers, or buffer it: the execution it was offered to did not consume it."""

    event: InboundEvent


@dataclass(frozen=True, slots=True)
class ListenAgain:
    """Look again for events and ends for a running execution: the event offered to it has expired."""

    seq: int  # the execution
    number: int  # number of the event


RuntimeEffect = AssignReady | SendWantedTypes | Redeliver | ListenAgain

ASSIGN_READY: Final = AssignReady()
SEND_WANTED_TYPES: Final = SendWantedTypes()


class EffectQueue:
    """Effects to be performed, each once however often it is added until then."""

    def __init__(self) -> None:
        self._pending: dict[RuntimeEffect, None] = {}
        self._added = asyncio.Event()

    def add(self, effect: RuntimeEffect) -> None:
        self._pending[effect] = None
        self._added.set()

    async def next(self) -> list[RuntimeEffect]:
        """Wait for effects and return them, on a turn of the event loop that begins after they were added."""
        if self._pending:
            await asyncio.sleep(0)
        while not self._pending:
            self._added.clear()
            await self._added.wait()
        effects = list(self._pending)
        self._pending.clear()
        return effects
