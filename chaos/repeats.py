"""Judges calls that were made again, and calls that came late. Pure; times are of `time.monotonic()`.

A call is known by its idempotency key: retries of it have the same one. Its result is *journaled for certain* once a
call was received that its execution makes after it, or once the end of the execution is stored. From then on it is not
made again at all. Until then, one that was answered may be made again if its answer was on its way to the journal when
its own runner, its router or its storage was hit: nothing else excuses that.

One kind of call is outside of any runner's control. The process may be stopped between its last look at its lease and
the moment at which it sends: once it goes on, the call reaches the service *late*, maybe after another runner has made
it, and more. `LateCalls` recognises it by the stored attempts of its execution.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from chaos import flows
from chaos.evidence import EndedExecution, Evidence, LostLease
from chaos.faults import STOP, InjectedFault
from chaos.peers import UNKNOWN
from chaos.service import Call

JOURNALED_SECONDS: Final = 1.0
"""Seconds in which the answer of a call is journaled, beyond those that executions about it took."""
NEAR_SECONDS: Final = 30.0
"""Seconds before and after a moment in which executions show how busy the machine was."""
LATE_SECONDS: Final = 5.0
"""Seconds after a stop in which a call that was about to be sent is."""
ROUNDING_SECONDS: Final = 0.01
"""By how much stored times, which are in milliseconds, and those of calls may differ."""


@dataclass(slots=True)
class Repeats:
    """Calls that were made again.

    Attributes:
        excused: whose answer may have been on its way to the journal when a fault hit it.
        journaled: whose result was journaled for certain.
        causeless: that no fault hit.
        after_the_end: calls that were made after the end of their execution was stored.
        latencies: moments at which calls were answered, each with the time that passed until the next call of their
            execution, where nothing disturbed it.
    """

    excused: list[Call] = field(default_factory=list)
    journaled: list[str] = field(default_factory=list)
    causeless: list[str] = field(default_factory=list)
    after_the_end: list[str] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)

    def journaled_in(self, answered: float) -> float:
        """Return the seconds in which answers were journaled about a moment."""
        near = (seconds for at, seconds in self.latencies if abs(at - answered) <= NEAR_SECONDS)
        return max(near, default=0.0) + JOURNALED_SECONDS


class LateCalls:
    """Recognises late calls: see the module."""

    def __init__(self, evidence: Evidence) -> None:
        self._lost = evidence.lost
        self._stops = [fault for fault in evidence.faults if fault.kind == STOP]
        self._late: set[int] = set()
        by_execution: dict[str, list[Call]] = defaultdict(list)
        for call in evidence.calls:
            by_execution[call.execution_id].append(call)
        for execution_id, calls in by_execution.items():
            flow = evidence.executions.get(execution_id)
            branches = 1 if flow is None else flows.FLOWS[flow.flow_id].branches
            for stop in self._stops:
                self._find(calls, stop, branches)

    def __contains__(self, call: Call) -> bool:
        """Whether a call came late."""
        return id(call) in self._late

    def __len__(self) -> int:
        """Return how many did."""
        return len(self._late)

    def _find(self, calls: Sequence[Call], stop: InjectedFault, branches: int) -> None:
        """Add the late calls of an execution in the runner that a fault stopped.

        Each of its branches was about to make at most one call, and none if one of its calls was under way already.
        """
        possible = [call for call in calls if self._may_be(call, stop)]
        if possible:
            under_way = sum(
                call.runner == stop.target
                and call.began < stop.began
                and (call.answered is None or call.answered >= stop.began)
                for call in calls
            )
            self._late.update(id(call) for call in possible[: max(0, branches - under_way)])

    def _may_be(self, call: Call, stop: InjectedFault) -> bool:
        return (
            call.runner in (stop.target, UNKNOWN)
            and stop.ended - ROUNDING_SECONDS <= call.began <= stop.ended + LATE_SECONDS
            and any(_was_lost_in(each, stop, call) for each in self._lost.get(call.execution_id, ()))
        )


def may_be_late(call: Call, faults: Sequence[InjectedFault]) -> bool:
    """Whether a call was made soon after its runner had been stopped, so that the stored attempts decide."""
    return any(
        fault.kind == STOP
        and call.runner in (fault.target, UNKNOWN)
        and fault.ended - ROUNDING_SECONDS <= call.began <= fault.ended + LATE_SECONDS
        for fault in faults
    )


def _was_lost_in(lease: LostLease, stop: InjectedFault, call: Call) -> bool:
    """Whether a lease was held by the stopped runner when it was stopped, and was lost before the call."""
    return (
        lease.runner in (stop.target, UNKNOWN)
        and (lease.assigned is None or lease.assigned <= stop.began + ROUNDING_SECONDS)
        and stop.began <= lease.ended + ROUNDING_SECONDS
        and lease.ended <= call.began + ROUNDING_SECONDS
    )


def find_repeats(evidence: Evidence, late: LateCalls) -> Repeats:
    """Judge all calls that were made again, and those after the end of their execution."""
    repeats = Repeats()
    by_execution: dict[str, list[Call]] = defaultdict(list)
    for call in evidence.calls:
        by_execution[call.execution_id].append(call)
    for execution_id, calls in by_execution.items():
        execution = evidence.executions.get(execution_id)
        if execution is not None and execution.flow_id in flows.UNINTERRUPTED:
            repeats.latencies += _undisturbed(execution, calls, evidence.faults)
    for execution_id, calls in by_execution.items():
        execution = evidence.executions.get(execution_id)
        if execution is not None:
            _judge(execution, calls, evidence, late, repeats)
    return repeats


def _judge(
    execution: EndedExecution, calls: Sequence[Call], evidence: Evidence, late: LateCalls, repeats: Repeats
) -> None:
    ended = execution.ended
    if ended is not None:
        repeats.after_the_end += [
            f"{_described(call)} after the end at {ended:.3f}"
            for call in calls
            if call.earliest > ended + ROUNDING_SECONDS and call not in late
        ]
    journaled_at = _journaled_at(execution, calls)
    by_key: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_key[call.key].append(call)
    for call, again in _repeated(by_key):
        if again in late:
            continue
        certain = journaled_at.get(call.step)
        lost = "; ".join(f"{each.runner} lost it at {each.ended:.3f}: {each.reason}"
                         for each in evidence.lost.get(call.execution_id, ()))  # fmt: skip
        both = f"{_described(call)}, again by {again.runner or 'an unknown runner'} from {again.began:.3f} on ({lost})"
        if certain is not None and again.earliest > certain + ROUNDING_SECONDS:
            repeats.journaled.append(f"{both}; journaled by {certain:.3f}")
        elif not _is_hit(call, evidence.faults, repeats):
            repeats.causeless.append(both)
        else:
            repeats.excused.append(call)


def _repeated(by_key: Mapping[str, Sequence[Call]]) -> Iterator[tuple[Call, Call]]:
    """Yield each call that was made again, with the last one before it that was answered with success, if any was."""
    for calls in by_key.values():
        answered = None
        for call in calls:
            if answered is not None:
                yield answered, call
            if call.succeeded and call.answered is not None:
                answered = call


def _journaled_at(execution: EndedExecution, calls: Sequence[Call]) -> dict[str, float]:
    """Return when each step's result was journaled at the latest, as later calls and the stored end show."""
    journaled: dict[str, float] = {}
    for call in calls:
        for step in flows.FLOWS[execution.flow_id].after.get(call.step, ()):
            journaled[step] = min(journaled.get(step, call.began), call.began)
    if execution.ended is not None:
        for step in flows.steps(execution.flow_id):
            journaled[step] = min(journaled.get(step, execution.ended), execution.ended)
    return journaled


def _is_hit(call: Call, faults: Sequence[InjectedFault], repeats: Repeats) -> bool:
    """Whether a fault, or the recovery from it, hit a call from its beginning until its answer was journaled."""
    answered = call.began if call.answered is None else call.answered
    until = answered + repeats.journaled_in(answered)
    return any(fault.hits(call.runner) and fault.lasts_at(call.began, until) for fault in faults)


def _undisturbed(
    execution: EndedExecution, calls: Sequence[Call], faults: Sequence[InjectedFault]
) -> Iterator[tuple[float, float]]:
    """Yield when calls were answered, and the seconds until the next call, where one runner made all undisturbed."""
    first: dict[str, Call] = {}
    for call in calls:
        first.setdefault(call.step, call)
    for call in first.values():
        before = [first[step] for step in flows.FLOWS[execution.flow_id].after[call.step] if step in first]
        answered = max((each.answered for each in before if each.answered is not None), default=None)
        if (
            {each.runner for each in before} == {call.runner}
            and answered is not None
            and not any(
                fault.hits(call.runner) and fault.lasts_at(answered - JOURNALED_SECONDS, call.began) for fault in faults
            )
        ):
            yield answered, call.began - answered


def _described(call: Call) -> str:
    answered = "unanswered" if call.answered is None else f"answered at {call.answered:.3f}"
    return f"{call.key} of {call.delivery} by {call.runner or 'an unknown runner'} from {call.began:.3f} on, {answered}"
