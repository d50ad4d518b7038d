"""Concludes from how a child ended who is to blame for that."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from flowhook.model import WorkflowError
from runner.guard.record import Evaluation
from runner.guard.watch import Verdict, confessed


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a child, as the router is to know it.

    Attributes:
        explained: whether what it was evaluating, if anything, is all there is to blame.
        lease: of what it was evaluating; empty: nothing, or nobody knows.
        error: what that faults with; None: it is assigned again.
        charged: whether being assigned again counts as an attempt.
        flow_id: flow whose expressions are evaluated in quarantine from now on; empty: none.
    """

    explained: bool
    lease: bytes = b""
    error: WorkflowError | None = None
    charged: bool = False
    flow_id: str = ""


def conclude(verdict: Verdict | None, evaluation: Evaluation, returncode: int | None, *, drained: bool) -> Exit:
    """Return what an end means.

    Args:
        verdict: why its guard killed it; None: it did not, or because it did not drain in time.
        evaluation: what the record says after its end.
        returncode: exit code, negative for a signal.
        drained: whether it was told to drain: then it is killed for being late, which is nobody's fault.
    """
    if verdict is not None and verdict.evaluation is not None:
        its = verdict.evaluation
        # a step of a call is none of an expression: it blocks a process apart just as well
        flow_id = "" if its.is_step else its.flow_id
        return Exit(explained=True, lease=its.lease, error=verdict.error, flow_id=flow_id)
    if verdict is None and drained and returncode == -signal.SIGKILL:
        return Exit(explained=True)
    if verdict is None and confessed(evaluation, returncode):
        # as good as a confession, but no proof
        flow_id = "" if evaluation.is_step else evaluation.flow_id
        return Exit(explained=True, lease=evaluation.lease, charged=True, flow_id=flow_id)
    return Exit(explained=verdict is None and drained)
