"""Metrics of a runner: plain integers while it works; see `flowhook.process.metric_table`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sized
from typing import Final

import attrs
from prometheus_client import CollectorRegistry

from flowhook.process.busiest import Busiest
from flowhook.process.metric_table import OTHER
from flowhook.process.metrics import Histogram, Value, expose
from runner.interpreter.effects import JournalWrite

# with these bounds, the metrics of a runner fit into a report of 10,000 lines
MAX_CALLS: Final = 400  # histograms of calls, of all flows
MAX_KINDS: Final = 8  # functions and statuses of the calls of a flow that are counted apart
MAX_HOSTS: Final = 50
MAX_HOST: Final = 253  # characters of a name that can be looked up (RFC 1035)
MAX_ANSWERS: Final = 3  # statuses and errors of the requests to a host that are counted apart
# keys of waits for another try end with this; an entry has the time of one, and a second one says that it is over
_RETRY: Final = ":retry"
_OVER: Final = b'{"over"'


class _Durations(dict[tuple[str, str], Histogram]):
    """Durations of a flow's calls, by function and status, or of requests to a host, by status and error."""

    retries = 0  # of the flow's tasks and calls

    def total(self) -> int:
        return self.retries + sum(seen.count for seen in self.values())


@attrs.define(eq=False, repr=False)
class RunnerMetrics:
    """All counts of a runner."""

    attempts: Counter[str] = attrs.field(init=False, factory=Counter)  # that ended, by outcome
    executions: Sized = attrs.field(init=False, default=())  # those that are worked on
    kills: int = attrs.field(init=False, default=0)  # processes that were killed because of an expression or a call
    _flows: Busiest[_Durations] = attrs.field(init=False, factory=lambda: Busiest(_Durations))
    _room: int = attrs.field(init=False, default=MAX_CALLS)  # histograms of calls that there may still be
    _hosts: Busiest[_Durations] = attrs.field(init=False, factory=lambda: Busiest(_Durations, MAX_HOSTS))

    def called(self, flow_id: str, function: str, status: str, seconds: float) -> None:
        """Count a call of a function by a flow, which took so long."""
        calls = self._flows.of(flow_id)
        seen = calls.get((function, status))
        if seen is None:
            calls = calls if self._room > 0 else self._flows.others
            key = (function, status) if len(calls) < MAX_KINDS else (OTHER, status)
            self._room -= key not in calls
            seen = calls.setdefault(key, Histogram("flowhook_task_duration_seconds"))
        seen.observe(seconds)

    def journaled(self, flow_id: str, writes: Iterable[JournalWrite]) -> None:
        """Count the tries that begin with what a flow's execution journals."""
        for write in writes:
            if write.entry.key.endswith(_RETRY) and (write.entry.output or b"").startswith(_OVER):
                self._flows.of(flow_id).retries += 1

    def requested(self, host: str, status: str, error: str, seconds: float) -> None:
        """Count an outgoing HTTP request, with the status of its response, or the class of its error.

        Senders may choose hosts: what is no name is counted with the others, or the metrics would not be accepted.
        """
        is_name = len(host) <= MAX_HOST and host.isascii() and host.isprintable()
        answers = self._hosts.of(host) if is_name else self._hosts.others
        seen = answers.get((status, error))
        if seen is None:
            key = (status, error) if len(answers) < MAX_ANSWERS else ("", OTHER)
            seen = answers.setdefault(key, Histogram("http_client_request_duration_seconds"))
        seen.observe(seconds)

    def expose(self, registry: CollectorRegistry) -> None:
        expose(
            registry,
            {
                "flowhook_attempts_total": lambda: [((outcome,), number) for outcome, number in self.attempts.items()],
                "flowhook_attempts_running": lambda: len(self.executions),
                "flowhook_task_duration_seconds": lambda: self._read(self._flows),
                "flowhook_task_retries_total": lambda: [
                    ((flow,), counts.retries) for flow, counts in self._flows.items() if counts.retries
                ],
                "http_client_request_duration_seconds": lambda: self._read(self._hosts),
                "flowhook_evaluation_kills_total": lambda: self.kills,
            },
        )

    def _read(self, durations: Busiest[_Durations]) -> list[tuple[tuple[str, str, str], Value]]:
        durations.rank(time.monotonic())
        self._room = MAX_CALLS - sum(len(calls) for _, calls in self._flows.items())
        return [((key, *labels), seen) for key, found in durations.items() for labels, seen in found.items()]


METRICS: Final = RunnerMetrics()  # of this process
