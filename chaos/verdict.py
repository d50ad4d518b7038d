"""The verdict: compares what was acknowledged and called with the guarantees. Pure; times are of `time.monotonic()`."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from chaos import flows
from chaos.cluster import RUNNERS, Findings
from chaos.faults import EVERYTHING, LEADER, OWNER, InjectedFault
from chaos.peers import UNKNOWN
from chaos.senders import Acknowledged
from chaos.service import Call
from flowhook.model import Status

SETTLED_SECONDS: Final = 10.0
"""Seconds after the end of a fault in which its consequences are still being dealt with."""
JOURNALED_SECONDS: Final = 1.0
"""Seconds in which the answer of a call is journaled when nothing is wrong."""
LOST_SECONDS: Final = 3.5
"""Seconds of a stop after which a runner may have lost its leases: they last 6 s, and are renewed every 2 s."""
ROLES: Final = (OWNER, LEADER, EVERYTHING)
"""Roles whose kills the service has to recover from."""
MAX_PROBLEMS: Final = 20
"""Problems of one kind that are described."""


@dataclass(slots=True)
class Verdict:
    """Counts, and a description of each violated guarantee.

    Attributes:
        problems: violations; empty: all guarantees held.
        counts: figures by name.
        recovery_seconds: by role of what was killed, from each kill to the next acknowledgement.
    """

    problems: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    recovery_seconds: dict[str, list[float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        recovery: dict[str, float] = {}
        for role, seconds in self.recovery_seconds.items():
            if seconds:
                recovery[f"{role}_recovery_median_s"] = round(statistics.median(seconds), 2)
                recovery[f"{role}_recovery_worst_s"] = round(max(seconds), 2)
        return {**self.counts, **recovery, "problems": self.problems}

    def add(self, findings: Findings) -> None:
        """Add what was found in the storage."""
        self.counts |= findings.counts
        for name, found in findings.problems.items():
            self.counts[name] = len(found)
            self.problems += [f"{name}: {each}" for each in found[:MAX_PROBLEMS]]


def judge(
    acknowledged: Sequence[Acknowledged],
    executions: Mapping[str, tuple[str, Status]],
    calls: Sequence[Call],
    faults: Sequence[InjectedFault],
) -> Verdict:
    """Judge a campaign after all executions have ended.

    Args:
        acknowledged: all events that were acknowledged; nothing else was sent.
        executions: flow and status by ID, of all executions that there are.
        calls: as the called service saw them.
        faults: that were made meanwhile.
    """
    verdict = Verdict()
    repeated, avoidable = _repeats(calls, faults)
    in_time: list[Call] = []
    late: list[Call] = []
    asked = {each.event_id: each.asked for each in acknowledged}
    for call in calls:
        (late if _is_late(call, asked.get(call.execution_id, 0.0), faults) else in_time).append(call)
    problems = {
        "lost": [f"{each.event_id} of {each.flow_id}" for each in acknowledged if each.event_id not in executions],
        "twice": list(_twice(acknowledged, executions)),
        "not_completed": [f"{key}: {status}" for key, (_, status) in executions.items() if status != Status.COMPLETED],
        "calls_missing": list(_missing(executions, calls)),
        "out_of_order": list(_out_of_order(in_time)),
        "too_many_at_a_time": list(_too_many(in_time, executions)),
    }
    verdict.counts = {
        "acknowledged": len(acknowledged),
        "executions": len(executions),
        "calls": len(calls),
        "faults": len(faults),
        **{name: len(found) for name, found in problems.items()},
        "calls_of_unknown_runners": sum(call.runner == UNKNOWN for call in calls),
        "calls_late": len(late),
        "calls_repeated": len(repeated),
        "calls_repeated_without_a_fault_near": len(avoidable),
    }
    verdict.problems = [f"{name}: {each}" for name, found in problems.items() for each in found[:MAX_PROBLEMS]]
    verdict.recovery_seconds = {role: list(_recoveries(acknowledged, faults, role)) for role in ROLES}
    return verdict


def _is_late(call: Call, asked: float, faults: Sequence[InjectedFault]) -> bool:
    """Whether a call may have been under way in a runner that was stopped, and reached the service when it went on.

    No check in a runner can prevent that: it may be stopped after the check, and lose its lease. It is a call by that
    very runner, of an execution that it can have had a lease of when it was stopped: its event was sent before.
    """
    return any(
        fault.kind == "SIGSTOP"
        and fault.target in RUNNERS
        and call.runner in (fault.target, UNKNOWN)
        and asked <= fault.began
        and fault.ended - fault.began > LOST_SECONDS
        and fault.ended <= call.began <= fault.ended + SETTLED_SECONDS
        for fault in faults
    )


def _twice(acknowledged: Sequence[Acknowledged], executions: Mapping[str, object]) -> Iterator[str]:
    known: set[str] = set()
    for each in acknowledged:
        if each.event_id in known:
            yield f"{each.event_id} stands for two events"
        known.add(each.event_id)
    yield from (f"{key} belongs to no acknowledged event" for key in executions.keys() - known)


def _missing(executions: Mapping[str, tuple[str, Status]], calls: Sequence[Call]) -> Iterator[str]:
    made = {(call.execution_id, call.step) for call in calls if call.answered is not None}
    for key, (flow_id, status) in executions.items():
        if status == Status.COMPLETED:
            yield from (f"{key} completed without {step}" for step in flows.steps(flow_id) if (key, step) not in made)


def _repeats(calls: Sequence[Call], faults: Sequence[InjectedFault]) -> tuple[list[Call], list[Call]]:
    """Return answered calls that were made again, and those of them for which no fault is to blame."""
    by_effect: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in calls:
        by_effect[call.execution_id, call.step].append(call)
    repeated = [
        call for made in by_effect.values() for call, again in pairwise(made) if _answered_before(call, again.began)
    ]
    avoidable = [
        call
        for call in repeated
        if call.answered is not None
        and not any(
            fault.began <= call.answered + JOURNALED_SECONDS and call.began <= fault.ended + SETTLED_SECONDS
            for fault in faults
        )
    ]
    return repeated, avoidable


def _answered_before(call: Call, moment: float) -> bool:
    return call.answered is not None and call.answered < moment


def _out_of_order(calls: Sequence[Call]) -> Iterator[str]:
    """Yield where an execution called something before all of the one before it, of its order key, had ended."""
    spans: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for call in calls:
        if call.step in flows.steps(flows.ORDER):
            spans[call.key][call.number].append(call.began)
    for key, by_number in spans.items():
        for former, latter in pairwise(sorted(by_number)):
            if max(by_number[former]) >= min(by_number[latter]):
                yield (
                    f"key {key}: event {latter} ran from {min(by_number[latter]):.3f} on, and {former} made calls at"
                    f" {', '.join(f'{began:.3f}' for began in by_number[former])}"
                )


def _too_many(calls: Sequence[Call], executions: Mapping[str, tuple[str, Status]]) -> Iterator[str]:
    """Yield the moments at which more executions of the limited flow called something than it allows."""
    changes: list[tuple[float, int, str]] = []
    for call in calls:
        if call.answered is not None and executions.get(call.execution_id, ("",))[0] == flows.LIMIT:
            changes += [(call.began, 1, call.execution_id), (call.answered, 0, call.execution_id)]
    changes.sort()
    running: set[str] = set()
    for moment, begins, execution_id in changes:
        if begins:
            running.add(execution_id)
            if len(running) > flows.CONCURRENCY:
                yield f"{len(running)} at {moment:.3f}: {', '.join(sorted(running))}"
        else:
            running.discard(execution_id)


def _recoveries(acknowledged: Sequence[Acknowledged], faults: Sequence[InjectedFault], role: str) -> Iterator[float]:
    """Yield the time from each kill to the next acknowledgement, if no other fault was made meanwhile."""
    moments = sorted((each.asked, each.at) for each in acknowledged)
    for fault in faults:
        if fault.kind.startswith("kill -9") and fault.role == role:
            struck = fault.began if fault.struck is None else fault.struck
            after = next((at for asked, at in moments if asked > struck), None)
            if after is not None and not any(fault.began < other.began < after for other in faults):
                yield after - struck
