"""Destinations of calls that are down: calls park before them, and what becomes of calls is reported to the router.

The router decides what is down, separately for each flow (`router.scheduling.outages`); this has its last decisions. A
destination is an origin, such as `https://api.example.com`: nothing else of a URL leaves the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Final

import attrs

from flowhook.attach.limits import MAX_CAUSE, is_origin
from flowhook.attach.messages import CallReport, DestinationState, DestinationUpdate
from flowhook.model import WorkflowError
from runner.interpreter.errors import DESTINATION_DOWN, Kind, TaskFault, error
from runner.interpreter.retry_policy import is_transient

SERVER_ERROR: Final = 500
# statuses of gateways and overload: the call did not reach what would have processed it
_NOT_PROCESSED: Final = frozenset({429, 502, 503, 504})
NO_ANSWER: Final = "no answer within the timeout"


class DestinationDown(Exception):  # noqa: N818 - not an error: the execution parks
    """A call was not made, because its destination is down."""

    def __init__(self, origin: str) -> None:
        super().__init__(origin)
        self.origin = origin


@attrs.define(eq=False, repr=False)
class Permit:
    """What the router allows an attempt: one call to a destination that is down, or to let that fail."""

    origin: str
    failure: str  # empty: the call may be made
    holder: CallGate | None = None  # the call that uses it


@attrs.define(eq=False, repr=False)
class Destinations:
    """What this process knows of destinations, by flow and origin."""

    _report: Callable[[CallReport], None]  # called with outcomes of calls for the router
    _states: dict[tuple[str, str], DestinationState] = attrs.field(init=False, factory=dict)

    def update(self, updates: Iterable[DestinationUpdate], *, renewed: bool) -> None:
        if renewed:
            self._states.clear()
        for flow_id, origin, state in updates:
            if state is DestinationState.UNKNOWN:
                self._states.pop((flow_id, origin), None)
            else:
                self._states[flow_id, origin] = state

    def parks(self, flow_id: str, origin: str) -> bool:
        return self._states.get((flow_id, origin)) is DestinationState.PARKS

    def succeeded(self, flow_id: str, origin: str) -> None:
        if self._states and (flow_id, origin) in self._states:
            self._report(CallReport(flow_id, origin, successes=1, failures=0))

    def failed(self, flow_id: str, origin: str, cause: str, retry_after_ms: int, *, permitted: bool) -> None:
        self._report(CallReport(flow_id, origin, 0, 1, cause, retry_after_ms, permitted=permitted))


@attrs.define(eq=False, repr=False)
class CallGate:
    """Stands before the requests of one call: lets them through, or raises `DestinationDown`.

    `blocked_by` is the destination that the call parks for, because it was not let through, or because it failed there
    and may be made again: no try of it counts. `failed_at` is the destination at which it failed otherwise.
    """

    _destinations: Destinations
    _flow_id: str
    _permit: Permit | None = None
    _repeatable: bool = True  # whether the flow's policy allows to make the call again after it was sent
    blocked_by: str = attrs.field(init=False, default="")
    failed_at: str = attrs.field(init=False, default="")
    _pending: str = attrs.field(init=False, default="")  # destination of the request under way

    def enter(self, origin: str) -> None:
        """Begin a request.

        Raises:
            DestinationDown: the destination is down.
            TaskFault: it is, and an operator lets such calls fail.
        """
        self.blocked_by = self.failed_at = self._pending = ""
        permit = self._permit
        if permit is not None and permit.origin == origin and permit.holder in (None, self):
            permit.holder = self
            if permit.failure:
                raise TaskFault(destination_error(origin, permit.failure))
        elif self._destinations.parks(self._flow_id, origin):
            self.blocked_by = origin
            raise DestinationDown(origin)
        self._pending = origin

    def answered(self, origin: str, status: int, retry_after_ms: int = 0) -> None:
        """Record the status of a response; from 500 on, or 429 with a time, it counts as a failure."""
        self._pending = ""
        if status >= SERVER_ERROR or (status == HTTPStatus.TOO_MANY_REQUESTS and retry_after_ms):
            self._failed(origin, f"it answers {status}", retry_after_ms, counts=status not in _NOT_PROCESSED)
        else:
            self._destinations.succeeded(self._flow_id, origin)

    def failed(self, origin: str, cause: str, *, sent: bool = True) -> None:
        """Record that there was no response; `sent`: the request may have reached the destination."""
        self._pending = ""
        self._failed(origin, cause, 0, counts=sent and not self._repeatable)

    def timed_out(self) -> None:
        """Record that the time of the call is over: a request under way had no response in time."""
        if self._pending:
            self.failed(self._pending, NO_ANSWER)

    def _failed(self, origin: str, cause: str, retry_after_ms: int, *, counts: bool) -> None:
        if not is_origin(origin):
            return
        permitted = self._permit is not None and self._permit.holder is self and self._permit.origin == origin
        self._destinations.failed(self._flow_id, origin, cause[:MAX_CAUSE], retry_after_ms, permitted=permitted)
        if not counts and self._destinations.parks(self._flow_id, origin):
            self.blocked_by = origin
        else:
            self.failed_at = origin

    @contextmanager
    def calling(self, origin: str) -> Iterator[None]:
        """Pass a call that is not made by the HTTP client through the gate; it fails by a TaskFault."""
        self.enter(origin)
        try:
            yield
        except TaskFault as problem:
            failed = problem.error
            if is_transient(failed):
                asked = problem.retry_after_ms
                if failed.type.endswith(Kind.TIMEOUT):
                    self.failed(origin, NO_ANSWER)
                elif failed.status in _NOT_PROCESSED:
                    self.answered(origin, failed.status, asked)
                else:
                    self.failed(origin, f"calls fail with status {failed.status}")
            elif not failed.type.endswith(Kind.CONFIGURATION):
                self.answered(origin, HTTPStatus.OK)  # it refused the call
            raise
        except BaseException:
            self._pending = origin
            raise
        self.answered(origin, HTTPStatus.OK)


def destination_error(origin: str, cause: str) -> WorkflowError:
    """Return the error of a call that was not made, because its destination is down: it is not tried again."""
    failed = error(Kind.COMMUNICATION, f"{origin} is down: {cause}", status=503)
    return replace(failed, title=DESTINATION_DOWN)
