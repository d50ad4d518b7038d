"""Attributes the exit of a child to the execution that caused it."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from flowhook.model import WorkflowError
from runner.guard.evaluation_record import RecordSnapshot
from runner.guard.watchdog import KillDecision, is_probable_cause


@dataclass(frozen=True, slots=True)
class Exit:
    """The exit of a child, as reported to the router."""

    explained: bool  # whether the cause is known: the evaluation of `lease`, or no execution at all
    lease: bytes = b""  # of the execution that was being evaluated; empty: none, or unknown
    error: WorkflowError | None = None  # ends that execution; None: it is assigned again
    charged: bool = False  # whether assigning it again counts as an attempt
    flow_id: str = ""  # flow to put into quarantine; empty: none


def classify(decision: KillDecision | None, snapshot: RecordSnapshot, returncode: int | None, *, drained: bool) -> Exit:
    """Classify the exit of a child, after which the record has the content `snapshot`.

    Args:
        decision: of the watchdog to kill it; None: it was not killed, or because it did not drain in time.
        snapshot: content of the record after the exit.
        returncode: exit code, negative for a signal.
        drained: whether it was told to drain: it is then killed for being late, which no execution caused.
    """
    if decision is not None:
        its = decision.snapshot
        if its is None:
            return Exit(explained=False)
        return Exit(explained=True, lease=its.lease, error=decision.error, flow_id=_flow_to_isolate(its))
    if drained and returncode == -signal.SIGKILL:
        return Exit(explained=True)
    if is_probable_cause(snapshot, returncode):  # very likely the cause, but not proven
        return Exit(explained=True, lease=snapshot.lease, charged=True, flow_id=_flow_to_isolate(snapshot))
    return Exit(explained=drained)


def _flow_to_isolate(snapshot: RecordSnapshot) -> str:
    # a step of a call is not an expression: it would block a separate process just as well
    return "" if snapshot.is_step else snapshot.flow_id
