"""Dependencies of operations besides the router: jq conditions, traces, attachments, access to edges, turns."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from flowhook.sharing import FairQueue, current_principal
from flowhook.sharing.table import AdminLimits
from operations.edge_access import EdgeAccess
from operations.parts import PartReader
from operations.search.evaluator import ConditionEvaluator
from operations.traces import Tracer


@dataclass(frozen=True, slots=True)
class Tools:
    """What operations use of the process; owned by its creator.

    Attributes:
        evaluator: evaluates jq conditions.
        tracer: computes traces of executions; None: nothing does.
        parts_reader: finds attachments; None: nothing does.
        edges: how edges are reached.
        turns: limits what is computed at a time; principals take turns.
    """

    evaluator: ConditionEvaluator = field(default_factory=ConditionEvaluator)
    tracer: Tracer | None = None
    parts_reader: PartReader | None = None
    edges: EdgeAccess = field(default_factory=EdgeAccess)
    turns: FairQueue = field(default_factory=lambda: FairQueue(AdminLimits().computations))

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait until it is the turn of the current principal to have something computed, within the block."""
        return self.turns.seat(current_principal.get())
