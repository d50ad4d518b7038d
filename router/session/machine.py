"""The state machine of the router's half of one Attach stream; `router.session` describes it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from flowhook.attach.limits import MAX_CREDIT, protocol_violation
from flowhook.attach.messages import (
    CheckpointBatch,
    Credit,
    Hello,
    OutcomeBatch,
    Renewal,
    RouterMessage,
    RunnerMessage,
    SubscriptionBatch,
    Welcome,
)
from router.session.effects import AddCredit, Effect, Register, RenewLeases
from router.session.report_queue import ReportQueue
from router.session.send_queue import SendQueue
from router.session.validation import check_hello


class _Phase(Enum):
    GREETING = "greeting"
    REGISTERING = "registering"
    ATTACHED = "attached"


class RunnerSession:
    """State of one stream of one runner.

    Attributes:
        runner_id: of the runner; empty before its hello.
        outgoing: what waits to be sent.
        reports: what waits to be stored.
    """

    def __init__(self) -> None:
        self._phase = _Phase.GREETING
        self._welcome: Welcome | None = None
        self.runner_id = ""
        self.outgoing = SendQueue()
        self.reports = ReportQueue()

    def receive(self, message: RunnerMessage | None, size: int) -> list[Effect]:
        """Process a message from the runner and return the effects to carry out at once, in order.

        What has to become durable first is added to `reports`.

        Args:
            message: from the runner; None: of a kind that this version does not know.
            size: of the message in bytes.

        Raises:
            InvalidError: the runner violated the protocol (`ATTACH_PROTOCOL_VIOLATION`); end the stream.
        """
        if isinstance(message, Hello) != (self._phase is _Phase.GREETING):
            raise protocol_violation("the first message of a stream is a hello, and there is no other one")
        match message:
            case CheckpointBatch() | OutcomeBatch() | SubscriptionBatch():
                self.reports.add(message, size)
            case Credit(assignments=assignments):
                if not 0 < assignments <= MAX_CREDIT:
                    raise protocol_violation(f"credit is 1 to {MAX_CREDIT} at a time")
                return [AddCredit(assignments)]
            case Renewal(stamp=stamp):
                return [RenewLeases(stamp)]
            case Hello():
                check_hello(message)
                self._phase = _Phase.REGISTERING
                self.runner_id = message.runner_id
                return [Register(message)]
            case None:
                pass
        return []

    def welcome(self, lease_seconds: float, retained: Iterable[bytes]) -> None:
        """Accept the runner, which retains these leases."""
        self._phase = _Phase.ATTACHED
        self._welcome = Welcome(lease_seconds, frozenset(retained))

    def take(self) -> list[RouterMessage]:
        """Return all messages to send now, in the required order: at first `Welcome` alone."""
        if self._phase is not _Phase.ATTACHED:
            return []
        if self._welcome is not None:
            welcome, self._welcome = self._welcome, None
            return [welcome]
        return self.outgoing.take()
