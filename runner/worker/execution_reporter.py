"""Passes what executions have to report to the session, and schedules sending it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import attrs

from flowhook.attach import messages
from flowhook.attach.send_pacing import QUIET
from flowhook.model import Subscription
from flowhook.process import logs
from flowhook.wire import convert
from runner.interpreter.effects import JournalWrite
from runner.session import Session
from runner.worker.active_execution import ActiveExecution, ActiveExecutions

log = logs.get_logger(__name__)


SendRequest = Callable[..., None]  # `(*, urgent=False)` has the session's messages sent: at once if urgent, else soon


@attrs.define(eq=False, repr=False)
class ExecutionReporter:
    """Reports the progress and the end of executions. Messages of a flow with few executions here are urgent."""

    _session: Session
    _executions: ActiveExecutions
    _request_send: SendRequest

    def write(self, execution: ActiveExecution, writes: Collection[JournalWrite]) -> None:
        for write in writes:
            self._session.checkpoint(
                execution.lease,
                execution.written,
                write.entry,
                compacts=write.compacts,
                reply=None if write.reply is None else convert.reply_to_bytes(write.reply),
                consumed=write.consumed,
                events=tuple(write.lifecycle_events),
                history=write.history,
            )
            execution.written += 1
            if write.binding:
                execution.binding = execution.written
        self._send(execution)

    def publish_events(self, execution: ActiveExecution) -> None:
        events, execution.lifecycle_events = execution.lifecycle_events, ()
        if not self._session.report_events(execution.lease, execution.written, events) and not execution.events_dropped:
            log.warning("too many lifecycle events wait to be sent; dropping some", execution=execution.event.id)
            execution.events_dropped = True
        self._send(execution)

    def subscribe(self, execution: ActiveExecution, subscriptions: Sequence[Subscription]) -> None:
        """Set what the execution waits for while it keeps its lease."""
        if self._session.subscribe(execution.lease, tuple(subscriptions)):
            self._send(execution)

    def finish(self, execution: ActiveExecution, ending: messages.Ending) -> None:
        history = b"" if execution.machine is None else execution.machine.take_history()
        self._session.finish(execution.lease, ending, execution.lifecycle_events, history)
        execution.lifecycle_events = ()
        self._send(execution)

    def _send(self, execution: ActiveExecution) -> None:
        self._request_send(urgent=self._executions.in_flow(execution.event.flow_id) <= QUIET)
