"""Dependencies of operations besides the router: jq conditions, traces, attachments, access to edges, turns."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

import orjson

from flowhook import limits
from flowhook.model import Event, ExecutionDetail
from flowhook.model.execution_trace import ExecutionTrace
from flowhook.sandbox.offload import Offload
from flowhook.sharing import FairQueue, current_principal
from flowhook.sharing.table import AdminLimits, OffloadLimits
from flowhook.wire import convert
from operations.attachment_parts import ListedPart, list_attachments, read_attachment
from operations.edges import EdgeAccess
from operations.search import ConditionEvaluator

SECONDS: Final = 5.0  # CPU time in which the attachments of a body are found
MEMORY_BYTES: Final = 256 * limits.MIB  # memory of a process
MAX_WAITING: Final = 16  # calls that may be running or queued for one flow


class Tracer(Protocol):
    """Computes traces of executions, without performing their effects."""

    async def trace(self, definition: bytes, detail: ExecutionDetail, body: bytes = b"") -> ExecutionTrace:
        """Return the trace of an execution.

        `definition` is the recorded revision of the flow, canonical JSON; `body` the beginning of one that is stored
        apart from the event.

        Raises:
            InvalidError: the flow can't be run (`FLOW_UNREADABLE`), or the trace is too costly (`TOO_COSTLY`).
            ExhaustedError: too many traces are waiting (`OVERLOADED`).
        """
        ...


class PartReader:
    """Finds attachments in bodies that are parts of their events, in processes of its own. Close it after use."""

    def __init__(self) -> None:
        self._offload = Offload(
            "attachments", seconds=SECONDS, memory=MEMORY_BYTES, shared=OffloadLimits.with_waiting(MAX_WAITING)
        )

    async def parts(self, event: Event) -> list[ListedPart]:
        """Return the attachments of an event; for errors see `Offload.run`."""
        found = await self._offload.run(event.flow_id, list_attachments, convert.event_to_bytes(event))
        return [ListedPart(**orjson.loads(each)) for each in found]

    async def read(self, event: Event, index: int) -> tuple[str, bytes] | None:
        """Return the name and the content of an attachment; None: there is no such. For errors see `parts`."""
        parts = (convert.event_to_bytes(event), b"%d" % index)
        found = await self._offload.run(event.flow_id, read_attachment, *parts)
        return (found[0].decode(), found[1]) if found else None

    async def aclose(self) -> None:
        await self._offload.aclose()


@dataclass(frozen=True, slots=True)
class Tools:
    """What operations use of the process; owned by its creator."""

    evaluator: ConditionEvaluator = field(default_factory=ConditionEvaluator)  # evaluates jq conditions
    tracer: Tracer | None = None  # computes traces of executions; None: nothing does
    parts_reader: PartReader | None = None  # finds attachments; None: nothing does
    edges: EdgeAccess = field(default_factory=EdgeAccess)  # how edges are reached
    # limits what is computed at a time; principals take turns
    turns: FairQueue = field(default_factory=lambda: FairQueue(AdminLimits().computations))

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait until it is the turn of the current principal to have something computed, within the block."""
        return self.turns.seat(current_principal.get())
