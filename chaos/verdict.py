"""The verdict: compares what was acknowledged and called with the guarantees. Pure; times are of `time.monotonic()`."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from chaos import flows
from chaos.cluster import Findings
from chaos.evidence import EndedExecution, Evidence
from chaos.faults import EVERYTHING, KILL, LEADER, OWNER, InjectedFault
from chaos.peers import UNKNOWN
from chaos.repeats import LateCalls, find_repeats, may_be_late
from chaos.senders import Acknowledged, Sent
from chaos.service import Call
from flowhook.limits import LEASE_SECONDS
from flowhook.model import Status

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
        refused: why there is none; empty: there is one.
    """

    problems: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    recovery_seconds: dict[str, list[float]] = field(default_factory=dict)
    refused: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        kinds = dict.fromkeys(problem.partition(":")[0] for problem in self.problems)
        broken = list(dict.fromkeys(GUARANTEES.get(kind, f"storage: {kind}") for kind in kinds))
        recovery: dict[str, float] = {}
        for role, seconds in self.recovery_seconds.items():
            if seconds:
                recovery[f"{role}_recovery_median_s"] = round(statistics.median(seconds), 2)
                recovery[f"{role}_recovery_worst_s"] = round(max(seconds), 2)
        verdict = f"refused: {self.refused}" if self.refused else "failed" if self.problems else "passed"
        return {**self.counts, **recovery, "problems": self.problems, "verdict": verdict, "broken": broken}

    def count_stall(self, seconds: float) -> None:
        """Count the longest time for which the campaign stood still; after a lease, its times prove nothing."""
        self.counts["campaign_stalled_worst_ms"] = round(seconds * 1000)
        if seconds > LEASE_SECONDS:
            self.refused = f"the campaign itself stood still for {seconds:.1f} s, longer than a lease"

    def add(self, findings: Findings) -> None:
        """Add what was found in the storage."""
        self.counts |= findings.counts
        for name, found in findings.problems.items():
            self.counts[name] = len(found)
            self.problems += [f"{name}: {each}" for each in found[:MAX_PROBLEMS]]


GUARANTEES: Final[Mapping[str, str]] = {
    "lost": "nothing accepted is lost",
    "twice": "one event is one execution",
    "started_twice": "what a flow starts, it starts once",
    "not_completed": "nothing accepted is lost",
    "calls_missing": "each call is made at least once",
    "journaled_calls_repeated": "a call whose result was journaled is never made again",
    "calls_repeated_without_a_cause": "a call whose result was journaled is never made again",
    "calls_after_the_end": "only the runner that has the lease works on an execution",
    "out_of_order": "events of one order key run one after another",
    "too_many_at_a_time": "no more executions of a flow run than its `concurrency` allows",
    "wrong_replies": "a sender gets what the flow answered",
    "unanswered": "what waits for a request, a reply or a callback gets it",
    "damaged": "bodies are stored byte for byte",
}
"""What each kind of problem breaks; other kinds are about the log and its views."""


def suspects(calls: Sequence[Call], faults: Sequence[InjectedFault]) -> set[str]:
    """Return the executions of which `judge` needs the interrupted attempts."""
    keys = Counter(call.key for call in calls)
    return {call.execution_id for call in calls if keys[call.key] > 1 or may_be_late(call, faults)}


def judge(evidence: Evidence) -> Verdict:
    """Judge a campaign after all executions have ended."""
    verdict = Verdict()
    sent, executions, calls = evidence.sent, evidence.executions, evidence.calls
    late = LateCalls(evidence)
    repeats = find_repeats(evidence, late)
    in_time = [call for call in calls if call not in late]
    replies = sum(each.flow_id == flows.REPLY for each in sent.acknowledged)
    problems = {
        "lost": [f"{each.event_id} of {each.flow_id}" for each in sent.acknowledged if each.event_id not in executions],
        "twice": list(_twice(sent.acknowledged, executions, calls)),
        "started_twice": list(_not_started_once(executions, calls)),
        "not_completed": [
            f"{key} of {each.flow_id}: {each.status}"
            for key, each in executions.items()
            if each.status != Status.COMPLETED
        ],
        "calls_missing": list(_missing(executions, calls)),
        "journaled_calls_repeated": repeats.journaled,
        "calls_repeated_without_a_cause": repeats.causeless,
        "calls_after_the_end": repeats.after_the_end,
        "out_of_order": list(_out_of_order(in_time)),
        "too_many_at_a_time": list(_too_many(in_time)),
        "wrong_replies": list(_wrong_replies(sent)),
        "unanswered": list(sent.unanswered),
        "damaged": [*evidence.damaged, *(f"{each.key}: as sent to the service" for each in calls if not each.intact)],
    }
    verdict.counts = {
        "requests": sent.requests,
        "acknowledged": len(sent.acknowledged),
        "executions": len(executions),
        "calls": len(calls),
        "calls_failed_on_purpose": sum(call.answered is not None and not call.succeeded for call in calls),
        "replies": replies,
        "replies_later": sum(each.later for each in sent.answers),
        "callbacks": len(sent.callbacks),
        "large_bodies": sum(bool(each.digest) for each in sent.acknowledged),
        "faults": len(evidence.faults),
        **{name: len(found) for name, found in problems.items()},
        "calls_of_unknown_runners": sum(call.runner == UNKNOWN for call in calls),
        "calls_late": len(late),
        "calls_repeated": len(repeats.excused),
        "journaled_in_median_ms": round(1000 * statistics.median([seconds for _, seconds in repeats.latencies] or [0])),
        "journaled_in_worst_ms": round(1000 * max((seconds for _, seconds in repeats.latencies), default=0)),
    }
    verdict.problems = [f"{name}: {each}" for name, found in problems.items() for each in found[:MAX_PROBLEMS]]
    verdict.recovery_seconds = {role: list(_recoveries(sent.acknowledged, evidence.faults, role)) for role in ROLES}
    return verdict


def _twice(
    acknowledged: Sequence[Acknowledged], executions: Mapping[str, EndedExecution], calls: Sequence[Call]
) -> Iterator[str]:
    """Yield events that share an execution, and executions for which there is no event.

    Where repeated deliveries are not recognised, each request for a delivery may have started an execution.
    """
    known: set[str] = set()
    for each in acknowledged:
        if each.event_id in known:
            yield f"{each.event_id} stands for two events"
        known.add(each.event_id)
    requests = {each.delivery: each.requests for each in acknowledged}
    started: dict[str, set[str]] = defaultdict(set)
    for call in calls:
        started[call.delivery].add(call.execution_id)
    delivery_of = {call.execution_id: call.delivery for call in calls}
    for key, execution in executions.items():
        if key in known or not flows.FLOWS[execution.flow_id].webhook:
            continue
        delivery = delivery_of.get(key, "")
        if execution.flow_id != flows.REPEATED:
            yield f"{key} of {execution.flow_id} belongs to no acknowledged event"
        elif len(started[delivery]) > requests.get(delivery, 0):
            yield f"{key} is one of {len(started[delivery])} executions of {delivery}, which was sent less often"


def _not_started_once(executions: Mapping[str, EndedExecution], calls: Sequence[Call]) -> Iterator[str]:
    """Yield deliveries of the flow that starts others for which these did not run exactly once."""
    started: dict[tuple[str, str], set[str]] = defaultdict(set)
    for call in calls:
        execution = executions.get(call.execution_id)
        if execution is not None:
            started[execution.flow_id, call.delivery].add(call.execution_id)
    for flow_id, delivery in list(started):
        if flow_id == flows.PARENT:
            for other in (flows.CHILD, flows.SUBSCRIBER):
                count = len(started[other, delivery])
                if count != 1:
                    yield f"{other} ran {count} times for {delivery}"


def _missing(executions: Mapping[str, EndedExecution], calls: Sequence[Call]) -> Iterator[str]:
    made = {(call.execution_id, call.step) for call in calls if call.answered is not None and call.succeeded}
    for key, execution in executions.items():
        if execution.status == Status.COMPLETED:
            yield from (
                f"{key} completed without {step}" for step in flows.steps(execution.flow_id) if (key, step) not in made
            )


def _wrong_replies(sent: Sent) -> Iterator[str]:
    """Yield replies that are not those of the flow, and of the execution that was acknowledged."""
    events = {each.delivery: each.event_id for each in sent.acknowledged}
    for each in sent.answers:
        if not each.right or each.event_id != events[each.delivery]:
            yield f"{each.delivery} got a reply of {each.event_id or 'no execution'}, and was {events[each.delivery]}"


def _out_of_order(calls: Sequence[Call]) -> Iterator[str]:
    """Yield where an execution called something before all of the one before it, of its order key, had ended."""
    spans: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for call in calls:
        if call.step in flows.steps(flows.ORDER):
            spans[call.order_key][call.number].append(call.began)
    for key, by_number in spans.items():
        for former, latter in pairwise(sorted(by_number)):
            if max(by_number[former]) >= min(by_number[latter]):
                yield (
                    f"key {key}: event {latter} ran from {min(by_number[latter]):.3f} on, and {former} made calls at"
                    f" {', '.join(f'{began:.3f}' for began in by_number[former])}"
                )


def _too_many(calls: Sequence[Call]) -> Iterator[str]:
    """Yield the moments at which more executions called something than the limit of their flow, or of a key, allows."""
    of_keys: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        if call.step in flows.steps(flows.KEYED):
            of_keys[call.order_key].append(call)
    yield from _beyond(flows.CONCURRENCY, (call for call in calls if call.step in flows.steps(flows.LIMIT)))
    for of_key in of_keys.values():
        yield from _beyond(flows.KEY_CONCURRENCY, of_key)


def _beyond(limit: int, calls: Iterable[Call]) -> Iterator[str]:
    changes: list[tuple[float, int, str]] = []
    for call in calls:
        if call.answered is not None:
            changes += [(call.began, 1, call.execution_id), (call.answered, 0, call.execution_id)]
    changes.sort()
    running: set[str] = set()
    for moment, begins, execution_id in changes:
        if begins:
            running.add(execution_id)
            if len(running) > limit:
                yield f"{len(running)} at {moment:.3f}: {', '.join(sorted(running))}"
        else:
            running.discard(execution_id)


def _recoveries(acknowledged: Sequence[Acknowledged], faults: Sequence[InjectedFault], role: str) -> Iterator[float]:
    """Yield the time from each kill to the next acknowledgement, if no other fault was made meanwhile."""
    moments = sorted((each.asked, each.at) for each in acknowledged)
    for fault in faults:
        if fault.kind.startswith(KILL) and fault.role == role:
            struck = fault.began if fault.struck is None else fault.struck
            after = next((at for asked, at in moments if asked > struck), None)
            if after is not None and not any(fault.began < other.began < after for other in faults):
                yield after - struck
