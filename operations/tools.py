"""Dependencies of operations besides the router: jq conditions, traces, attachments, access to edges, turns."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

from flowhook import limits
from flowhook.model import ExecutionDetail
from flowhook.model.execution_trace import ExecutionTrace
from flowhook.sandbox.offload import Offload
from flowhook.sharing import FairQueue, current_principal
from flowhook.sharing.table import AdminLimits, OffloadLimits
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


def attachment_finder() -> Offload:
    """Return what finds attachments in bodies that are parts of their events (`operations.parts`); close it."""
    shared = OffloadLimits.with_waiting(MAX_WAITING)
    return Offload("attachments", seconds=SECONDS, memory=MEMORY_BYTES, shared=shared)


@dataclass(frozen=True, slots=True)
class Tools:
    """What operations use of the process; owned by its creator."""

    evaluator: ConditionEvaluator = field(default_factory=ConditionEvaluator)  # evaluates jq conditions
    tracer: Tracer | None = None  # computes traces of executions; None: nothing does
    attachments: Offload | None = None  # finds attachments; None: nothing does
    edges: EdgeAccess = field(default_factory=EdgeAccess)  # how edges are reached
    # limits what is computed at a time; principals take turns
    turns: FairQueue = field(default_factory=lambda: FairQueue(AdminLimits().computations))

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait until it is the turn of the current principal to have something computed, within the block."""
        return self.turns.seat(current_principal.get())
