"""The router's half of the Attach protocol, without I/O: messages from one runner in, effects out.

`PHASES` has the phases of a stream; docs/architecture.md shows them. What no Flowhook runner sends is a protocol
violation: an InvalidError (`ATTACH_PROTOCOL_VIOLATION`), which ends the stream.

One instance serves one stream, since credit and everything that is not sent are lost with it. Leases outlive streams;
the scheduling core knows them (`router.scheduling`), and this module does not.

Neither queue decides when something is stored or sent: its owner takes all there is, as soon as it is done with what it
took before, so that batches grow with the load.

A runner whose queue is full gets no more work until some of it is sent (back-pressure). The queue of one that leaves
too many revocations unread overflows, so that its stream can be ended.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, TypeVar

import orjson

from flowhook import limits
from flowhook.attach import messages as m
from flowhook.attach.limits import (
    MAX_CALL_REPORTS,
    MAX_CAUSE,
    MAX_COMPONENT_NAME,
    MAX_COMPONENTS,
    MAX_CREDIT,
    MAX_DESTINATIONS,
    MAX_ERROR_TEXT,
    MAX_EVENT_KEY,
    MAX_EXECUTION_ID,
    MAX_HELD_LEASES,
    MAX_KEY_BYTES,
    MAX_LEASE_BYTES,
    MAX_PART_BYTES,
    MAX_RETRY_KEYS,
    MAX_RETRY_KEYS_BYTES,
    MAX_RUNNER_ID,
    assignment_size,
    delivery_size,
    is_origin,
    protocol_violation,
    split,
)
from flowhook.events.lifecycle import MAX_DATA_BYTES, LifecycleEvent, is_valid_data
from flowhook.expressions.syntax import InvalidExpression
from flowhook.model import RaiseOrigin, Retry, Subscription, WorkflowError
from router.scheduling.matching import filter_fingerprint


@dataclass(frozen=True, slots=True)
class Register:
    """Register the runner, then call `RunnerSession.welcome` with the leases that it retains."""

    hello: m.Hello


@dataclass(frozen=True, slots=True)
class AddCredit:
    """Allow the runner more assignments; end the stream if that is more than may be outstanding."""

    assignments: int


@dataclass(frozen=True, slots=True)
class RenewLeases:
    """Renew the runner's leases, then call `SendQueue.renewed` with the stamp; not if they are lost."""

    stamp: int


@dataclass(frozen=True, slots=True)
class CountCalls:
    """Count the outcomes of calls."""

    reports: tuple[m.CallReport, ...]


Effect = Register | AddCredit | RenewLeases | CountCalls


@dataclass(frozen=True, slots=True)
class StoreReports:
    """Store checkpoints and outcomes, in any order, and the later outcomes after them; then acknowledge them."""

    checkpoints: tuple[m.Checkpoint, ...]  # of executions, in order for each
    outcomes: tuple[m.Outcome, ...]  # with the checkpoints that were sent before them
    # of executions among `checkpoints` that may turn out to consume what is not theirs
    later_outcomes: tuple[m.Outcome, ...]


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Replace the subscriptions of a running execution; withdraw a delivery for an earlier update."""

    update: m.SubscriptionUpdate


ReportEffect = StoreReports | Subscribe  # effects to carry out one after another, each after the one before is durable


def check_runner_id(runner_id: str) -> None:
    if not 0 < len(runner_id) <= MAX_RUNNER_ID:
        raise protocol_violation(f"a runner ID has 1 to {MAX_RUNNER_ID} characters")


def check_hello(hello: m.Hello) -> None:
    check_runner_id(hello.runner_id)
    if len(hello.components) > MAX_COMPONENTS or any(len(name) > MAX_COMPONENT_NAME for name in hello.components):
        raise protocol_violation(
            f"a runner calls at most {MAX_COMPONENTS} functions, with names of at most {MAX_COMPONENT_NAME} characters"
        )
    if len(hello.held_leases) > MAX_HELD_LEASES or any(len(lease) > MAX_LEASE_BYTES for lease in hello.held_leases):
        raise protocol_violation(f"a runner holds at most {MAX_HELD_LEASES} leases, of at most {MAX_LEASE_BYTES} bytes")


def check_calls(reports: Sequence[m.CallReport]) -> None:
    if len(reports) > MAX_CALL_REPORTS or not all(
        0 < len(each.flow_id) <= limits.MAX_FLOW_ID_LENGTH
        and is_origin(each.origin)
        and len(each.cause) <= MAX_CAUSE
        and min(each.successes, each.failures, each.earlier_failures) >= 0
        and max(each.successes, each.failures, each.earlier_failures) <= MAX_CREDIT * MAX_CREDIT
        for each in reports
    ):
        raise protocol_violation(f"at most {MAX_CALL_REPORTS} calls are reported at once, with their flows and origins")


def checked_checkpoint(checkpoint: m.Checkpoint) -> m.Checkpoint:
    if checkpoint.index < 0:
        raise protocol_violation("the index of a checkpoint counts from 0")
    if checkpoint.events:
        _check_events(checkpoint.events)
    return checkpoint if len(checkpoint.history) <= limits.MAX_HISTORY_BYTES else checkpoint._replace(history=b"")


def checked_outcome(outcome: m.Outcome) -> m.Outcome:
    """Return an outcome with what may have any length in a flow cut to its limits."""
    ending = outcome.ending
    if isinstance(ending, m.Parked):
        check_subscriptions(ending.subscriptions)
        if len(ending.destinations) > MAX_DESTINATIONS or not all(map(is_origin, ending.destinations)):
            raise protocol_violation(f"an execution waits for at most {MAX_DESTINATIONS} destinations, by origin")
        if ending.retry is not None:
            outcome = outcome._replace(ending=ending._replace(retry=_checked_retry(ending.retry)))
    elif isinstance(ending, m.Faulted):
        outcome = outcome._replace(ending=m.Faulted(_bounded(ending.error)))
    if outcome.events:
        _check_events(outcome.events)
    if outcome.checkpoints:
        outcome = outcome._replace(checkpoints=tuple(map(checked_checkpoint, outcome.checkpoints)))
    return outcome if len(outcome.history) <= limits.MAX_HISTORY_BYTES else outcome._replace(history=b"")


def check_subscriptions(subscriptions: Sequence[Subscription]) -> None:
    for subscription in subscriptions:
        if not 0 < len(subscription.key.encode()) <= MAX_KEY_BYTES:
            raise protocol_violation(f"the key of a subscription has 1 to {MAX_KEY_BYTES} bytes")
        if not subscription.filters and not 0 < len(subscription.execution_id) <= MAX_EXECUTION_ID:
            raise protocol_violation(f"the ID of an awaited execution has 1 to {MAX_EXECUTION_ID} characters")
        for filter_ in subscription.filters:
            try:
                filter_fingerprint(filter_)
            except InvalidExpression as error:
                raise protocol_violation(f"the path of a correlation: {error}") from None
            except (orjson.JSONDecodeError, RecursionError):
                raise protocol_violation("the value that a correlation expects is not JSON") from None


def _checked_retry(retry: Retry) -> Retry:
    sizes = [len(key.encode()) for key in retry.keys]
    if not 0 < len(sizes) <= MAX_RETRY_KEYS or not min(sizes) or sum(sizes) > MAX_RETRY_KEYS_BYTES:
        raise protocol_violation(
            f"1 to {MAX_RETRY_KEYS} waits for retries are named, by keys of at most {MAX_RETRY_KEYS_BYTES} bytes in all"
        )
    if retry.tries < 1 or retry.others < 0:
        raise protocol_violation("tries count from 1, other retries from 0")
    return retry._replace(error=_bounded(retry.error))


def _check_events(events: Sequence[LifecycleEvent]) -> None:
    for event in events:
        if not (0 < len(event.key) <= MAX_EVENT_KEY and event.key.isascii() and is_valid_data(event.data)):
            raise protocol_violation(
                f"an event has a key of 1 to {MAX_EVENT_KEY} ASCII characters, and {MAX_DATA_BYTES} bytes of JSON"
            )


def _bounded(error: WorkflowError) -> WorkflowError:
    """Return an error with its texts cut to their limits: a flow may give them any length."""
    response = error.response
    if response is not None:
        url, body = response.url[:MAX_ERROR_TEXT], response.body[: limits.MAX_ERROR_BODY_BYTES]
        response = response._replace(url=url, body=body)
    return replace(
        error,
        type=error.type[:MAX_ERROR_TEXT],
        title=error.title[:MAX_ERROR_TEXT],
        instance=error.instance[:MAX_ERROR_TEXT],
        detail=error.detail[:MAX_ERROR_TEXT],
        response=response,
        raising=error.raising and RaiseOrigin(*(text[:MAX_ERROR_TEXT] for text in error.raising)),
        destination=error.destination if is_origin(error.destination) else "",
    )


# bytes of messages that may wait to be stored before reading stops
MAX_UNSTORED_BYTES: Final = limits.MAX_MESSAGE_BYTES
# bytes of messages stored in one batch, or one larger message: other runners need to write, too
MAX_STORE_BYTES: Final = 8 * limits.MIB
Report = m.CheckpointBatch | m.OutcomeBatch | m.SubscriptionBatch


class ReportQueue:
    """Checkpoints, outcomes and subscriptions of one runner that wait to be stored, in order and in batches."""

    def __init__(self) -> None:
        self._reports: deque[tuple[Report, int]] = deque()
        self._bytes = 0
        self._storing = 0

    def __bool__(self) -> bool:
        return bool(self._reports)

    @property
    def full(self) -> bool:
        return self._bytes > MAX_UNSTORED_BYTES

    def add(self, report: Report, size: int) -> None:
        match report:
            case m.CheckpointBatch():
                report = m.CheckpointBatch(tuple(map(checked_checkpoint, report.checkpoints)))
            case m.OutcomeBatch():
                report = m.OutcomeBatch(tuple(map(checked_outcome, report.outcomes)))
            case m.SubscriptionBatch():
                for update in report.updates:
                    check_subscriptions(update.subscriptions)
        self._reports.append((report, size))
        self._bytes += size

    def take(self) -> list[ReportEffect]:
        """Remove the next batch, and return what to do with it; call `stored` when that is done."""
        effects: list[ReportEffect] = []
        checkpoints: list[m.Checkpoint] = []
        outcomes: list[m.Outcome] = []
        while self._reports and self._storing < MAX_STORE_BYTES:
            report, size = self._reports.popleft()
            self._storing += size
            match report:
                case m.CheckpointBatch():
                    checkpoints += report.checkpoints
                case m.OutcomeBatch():
                    outcomes += report.outcomes
                case m.SubscriptionBatch():
                    # it withdraws deliveries that no earlier checkpoint has accepted
                    effects += _store(checkpoints, outcomes)
                    checkpoints, outcomes = [], []
                    effects += map(Subscribe, report.updates)
        return effects + _store(checkpoints, outcomes)

    def stored(self) -> None:
        self._bytes -= self._storing
        self._storing = 0


def _store(checkpoints: Sequence[m.Checkpoint], outcomes: Sequence[m.Outcome]) -> list[ReportEffect]:
    """Return the effect that stores reports: each outcome together with the checkpoints of its execution, or after.

    It is stored after a checkpoint that consumes an event: it must first be checked whether the execution may do that.
    """
    if not checkpoints and not outcomes:
        return []
    journals: dict[bytes, list[m.Checkpoint]] = defaultdict(list)
    for checkpoint in checkpoints:
        journals[checkpoint.lease].append(checkpoint)
    at_once: list[m.Outcome] = []
    later: list[m.Outcome] = []
    for outcome in outcomes:
        journal = journals.get(outcome.lease)
        if journal is None:
            at_once.append(outcome)
        elif any(checkpoint.consumed for checkpoint in journal):
            later.append(outcome)
        else:
            del journals[outcome.lease]
            at_once.append(outcome._replace(checkpoints=(*journal, *outcome.checkpoints)))
    rest = tuple(checkpoint for journal in journals.values() for checkpoint in journal)
    return [StoreReports(rest, tuple(at_once), tuple(later))]


# bytes of events and journals in one message; a larger assignment is sent alone
MAX_BATCH_BYTES: Final = MAX_PART_BYTES
# bytes of events and journals that may be queued before a runner gets no more work
MAX_UNSENT_BYTES: Final = 16 * limits.MIB
# revoked leases that may be queued for each reason; a runner holds a few thousand leases at most
MAX_UNSENT_REVOCATIONS: Final = 64 * 1024
_Item = TypeVar("_Item")


class SendQueue:
    """What waits to be sent to one runner, in an order that makes sense, and bounded."""

    def __init__(self) -> None:
        self._assignments: list[m.Assignment] = []
        self._deliveries: list[m.EventDelivery] = []
        self._durable: dict[bytes, m.DurableCheckpoint] = {}
        self._wanted: frozenset[str] | None = None
        self._destinations: dict[tuple[str, str], m.DestinationState] = {}
        self._settled: list[bytes] = []
        self._revoked: dict[str, list[bytes]] = {}
        self._renewed: int | None = None
        self._drain: float | None = None
        self._unsent_bytes = 0
        self._sending = 0

    @property
    def full(self) -> bool:
        """Whether so much is queued that no more work should be assigned for now."""
        return self._unsent_bytes >= MAX_UNSENT_BYTES

    def assign(self, assignments: Sequence[m.Assignment]) -> None:
        self._assignments += assignments
        self._unsent_bytes += sum(map(assignment_size, assignments))

    def deliver(self, delivery: m.EventDelivery) -> None:
        """Queue an event or end for a running execution; each execution has at most one at a time."""
        self._deliveries.append(delivery)
        self._unsent_bytes += delivery_size(delivery)

    def acknowledge(self, lease: bytes, index: int, number: int = 0) -> None:
        """Acknowledge an execution's journal up to `index`, and checkpoints without an entry up to `number`."""
        known = self._durable.get(lease)
        if known is not None:
            index, number = max(index, known.index), max(number, known.number)
        self._durable[lease] = m.DurableCheckpoint(lease, index, number)

    def want(self, types: Collection[str]) -> None:
        self._wanted = frozenset(types)

    def update_destinations(self, updates: Iterable[m.DestinationUpdate]) -> None:
        for flow_id, origin, state in updates:
            self._destinations[flow_id, origin] = state

    def settle(self, leases: Sequence[bytes]) -> None:
        self._settled += leases

    def revoke(self, leases: Sequence[bytes], reason: str) -> bool:
        """Queue the revocation of leases; false: too many are queued, and all of them are dropped."""
        unsent = self._revoked.setdefault(reason, [])
        unsent += leases
        if len(unsent) <= MAX_UNSENT_REVOCATIONS:
            return True
        self._revoked = {}
        return False

    def renewed(self, stamp: int) -> None:
        """Answer a renewal; only the last answer is sent."""
        self._renewed = stamp

    def drain(self, grace: float) -> None:
        """Announce that this router stops in `grace` seconds."""
        self._drain = grace

    def take(self) -> list[m.RouterMessage]:
        """Remove everything from the queue and return it as messages; call `sent` when they are sent."""
        self._sending = self._unsent_bytes
        messages: list[m.RouterMessage] = []
        if self._wanted is not None:
            messages.append(m.LifecycleFilter(self._wanted))
            self._wanted = None
        if self._destinations:  # before the assignments that depend on them
            updates = tuple(m.DestinationUpdate(*key, state) for key, state in self._destinations.items())
            messages.append(m.DestinationUpdates(updates))
            self._destinations.clear()
        if self._settled:
            messages.append(m.Settlement(tuple(self._settled)))
            self._settled.clear()
        if self._durable:
            messages.append(m.CheckpointAck(tuple(self._durable.values())))
            self._durable.clear()
        if self._deliveries:
            messages += map(m.EventDeliveryBatch, self._parts(self._deliveries, delivery_size))
            self._deliveries.clear()
        if self._assignments:
            messages += map(m.AssignmentBatch, self._parts(self._assignments, assignment_size))
            self._assignments.clear()
        # after the assignments: they may contain one that was cancelled at once
        messages += [m.Revocation(tuple(leases), reason) for reason, leases in self._revoked.items()]
        self._revoked.clear()
        if self._renewed is not None:  # after the revocations: the renewal does not cover those leases
            messages.append(m.Renewed(self._renewed))
            self._renewed = None
        if self._drain is not None:
            messages.append(m.Drain(self._drain))
            self._drain = None
        return messages

    def _parts(self, items: Sequence[_Item], size_of: Callable[[_Item], int]) -> list[tuple[_Item, ...]]:
        return [tuple(items)] if self._sending <= MAX_BATCH_BYTES else split(items, size_of, MAX_BATCH_BYTES)

    def sent(self) -> None:
        self._unsent_bytes -= self._sending
        self._sending = 0


class _Phase(Enum):
    GREETING = "greeting"
    REGISTERING = "registering"
    ATTACHED = "attached"


# the next phase of a stream, by phase and message, or by the method that its owner calls
PHASES: Final = {
    (_Phase.GREETING, "Hello"): _Phase.REGISTERING,
    (_Phase.REGISTERING, "welcome()"): _Phase.ATTACHED,
}


class RunnerSession:
    """State of one stream of one runner: what waits to be sent (`outgoing`), and to be stored (`reports`)."""

    def __init__(self) -> None:
        self._phase = _Phase.GREETING
        self._welcome: m.Welcome | None = None
        self.runner_id = ""  # empty before its hello
        self.outgoing = SendQueue()
        self.reports = ReportQueue()

    def receive(self, message: m.RunnerMessage | None, size: int) -> list[Effect]:
        """Process a message from the runner and return the effects to carry out at once, in order.

        What has to become durable first is added to `reports`. The message has `size` bytes; None: it is of a kind that
        this version does not know.
        """
        if isinstance(message, m.Hello) != (self._phase is _Phase.GREETING):
            raise protocol_violation("the first message of a stream is a hello, and there is no other one")
        match message:
            case m.CheckpointBatch() | m.OutcomeBatch() | m.SubscriptionBatch():
                self.reports.add(message, size)
            case m.Credit(assignments=assignments):
                if not 0 < assignments <= MAX_CREDIT:
                    raise protocol_violation(f"credit is 1 to {MAX_CREDIT} at a time")
                return [AddCredit(assignments)]
            case m.Renewal(stamp=stamp):
                return [RenewLeases(stamp)]
            case m.CallReports(reports=reports):
                check_calls(reports)
                return [CountCalls(reports)]
            case m.Hello():
                check_hello(message)
                self._phase = PHASES[self._phase, "Hello"]
                self.runner_id = message.runner_id
                return [Register(message)]
            case None:
                pass
        return []

    def welcome(self, lease_seconds: float, retained: Iterable[bytes]) -> None:
        """Accept the runner, which retains these leases."""
        self._phase = PHASES[self._phase, "welcome()"]
        self._welcome = m.Welcome(lease_seconds, frozenset(retained))

    def take(self) -> list[m.RouterMessage]:
        """Return all messages to send now, in the required order: at first `Welcome` alone."""
        if self._phase is not _Phase.ATTACHED:
            return []
        if self._welcome is not None:
            welcome, self._welcome = self._welcome, None
            return [welcome]
        return self.outgoing.take()
