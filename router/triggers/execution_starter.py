"""Appends the events that start executions without a request, within the limits of their flows, each under one ID."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import attrs

from flowhook import limits
from flowhook.errors import ExhaustedError, FlowhookError, InvalidError, UnavailableError
from flowhook.events import ids
from flowhook.model import Event, Origin
from flowhook.model.executions import LinkKind
from flowhook.wire import convert
from router.dispatch.parts import ShardParts
from router.flows.admission import AdmissionControl, event_id_taken
from router.storage.model import Appended, Cause, NewEvent

MAX_IDEMPOTENCY_KEY: Final = 255  # length of an idempotency key, characters


class EffectIds:
    """An effect of an execution on other flows; when it is repeated, it has the same idempotency key."""

    def __init__(self, idempotency_key: str, execution_id: str) -> None:
        """Check the key, and take the time of derived IDs from it, or else from `execution_id`.

        The key begins with the ID of the execution that the effect belongs to; the one that performs it is the same, or
        a replay of it.
        """
        if not 0 < len(idempotency_key) <= MAX_IDEMPOTENCY_KEY or not idempotency_key.isascii():
            raise InvalidError(
                f"`idempotency_key` must have 1 to {MAX_IDEMPOTENCY_KEY} ASCII characters",
                reason="IDEMPOTENCY_KEY_INVALID",
            )
        self._key = idempotency_key
        self._began_ms = ids.time_ms_of(execution_id)
        with suppress(InvalidError):
            self._began_ms = ids.time_ms_of(idempotency_key[: ids.LENGTH])

    def derive(self, consequence: str, flow_id: str) -> str:
        """Derive the ID of the execution or event that the effect causes in a flow; `consequence` is its kind."""
        return ids.derive(ids.slot_of(flow_id), self._began_ms, f"{consequence} {flow_id} {self._key}")


def check_depth(depth: int) -> None:
    """Refuse to let an execution start others beyond the limit: stops loops of flows that start one another."""
    if depth < 0:
        raise InvalidError("`depth` must be at least 0", reason="DEPTH_INVALID")
    if depth >= limits.MAX_WORKFLOW_DEPTH:
        raise InvalidError(
            f"flows may start one another at most {limits.MAX_WORKFLOW_DEPTH} levels deep", reason="WORKFLOW_TOO_DEEP"
        )


class ExecutionStart(NamedTuple):
    """An execution to start."""

    event_id: str  # its ID, derived from its cause (see `ids.derive`)
    flow_id: str
    origin: Origin  # kind of the cause
    body: bytes  # the workflow's input, JSON
    depth: int = 0  # see `Event.depth`
    quiet: bool = False  # no lifecycle events are published for it
    revision: int = 0  # of the flow; 0: the latest
    parent: str = ""  # ID of the execution that is the cause; empty: there is none, or several
    emitters: tuple[str, ...] = ()  # IDs of the executions whose events are the cause together
    traceparent: str = ""  # of the cause; empty: it has none

    @property
    def causes(self) -> tuple[Cause, ...]:
        kind = LinkKind.RUN if self.origin is Origin.WORKFLOW else LinkKind.EVENT
        return tuple(Cause(each, kind) for each in dict.fromkeys((self.parent, *self.emitters)) if each)


@attrs.define(eq=False, repr=False)
class ExecutionStarter:
    """Starts executions, idempotently: a start that is stored already succeeds again, whatever the limits are now."""

    _parts: ShardParts
    _admission: AdmissionControl

    async def start(self, starts: Sequence[ExecutionStart]) -> list[Appended | FlowhookError]:
        """Store the events that start executions, durably and each once.

        Returns one result per start, in order; an error for each that can't be started: there is no such flow
        (`FLOW_NOT_FOUND`), this version can't read it (`FLOW_UNREADABLE`), another flow's event has the ID
        (`EVENT_ID_TAKEN`: somebody guessed it), its backlog (`BACKLOG_FULL`) or that of all flows
        (`TOTAL_BACKLOG_FULL`) is full, or too many keys of its rate are in use (`RATE_KEYS_FULL`).

        Raises:
            UnavailableError: storage can't serve; nothing was stored.
        """
        checked: list[NewEvent | Appended | FlowhookError] = []
        of_flow: Counter[str] = Counter()
        for start in starts:
            try:
                checked.append(await self._admitted(start, of_flow.total(), of_flow[start.flow_id]))
                of_flow[start.flow_id] += 1
            except FlowhookError as error:
                checked.append(await self._refused(start, error))
        events = [each for each in checked if isinstance(each, NewEvent)]
        stored = iter(await self._parts.log.append(events) if events else ())
        results = [next(stored) if isinstance(each, NewEvent) else each for each in checked]
        return [event_id_taken() if isinstance(each, Appended) and each.taken else each for each in results]

    async def is_quiet(self, execution_id: str) -> bool:
        """Whether no lifecycle events are published for an execution, nor for those that it starts."""
        if not self._parts.outbox.wanted:
            return False
        record = await self._parts.state.find(execution_id)
        return record is not None and record.quiet

    async def _admitted(self, start: ExecutionStart, more: int, more_of_flow: int) -> NewEvent:
        entry = self._admission.known(start.flow_id) or await self._admission.flow(start.flow_id)
        self._admission.check_backlog(entry.id, entry.max_backlog, more, more_of_flow)
        now_ms = self._parts.now_ms()
        event = Event(
            id=start.event_id,
            flow_id=start.flow_id,
            receive_time_ms=now_ms,
            principal=None,
            dedupe_key="",
            method="",
            path="",
            query="",
            content_type="application/json",
            headers=(),
            body=start.body,
            traceparent=start.traceparent,
            origin=start.origin,
            depth=start.depth,
            parent=start.parent,
        )
        order_key, attributes, shaping = await self._admission.keys_of(entry, event)
        if shaping is not None and shaping.rate:
            self._admission.check_rate_key(entry.id, shaping.rate)
        payload = convert.event_to_bytes(event)
        if shaping is not None and entry.batches:
            if start.origin is Origin.EVENTS and shaping.group:
                # what the first of a batch says of lifecycle events and of depth is so of all
                key = shaping._replace(group=f"{start.depth} {start.quiet:d} {shaping.group}")
                shaping = key.batched(entry.revision, len(payload))
            else:
                shaping = shaping.without_group()
        return NewEvent(
            event.id,
            entry.id,
            start.revision or entry.revision,
            now_ms,
            payload,
            order_key=order_key,
            quiet=start.quiet,
            attributes=attributes,
            causes=start.causes,
            shaping=shaping,
        )

    async def _refused(self, start: ExecutionStart, error: FlowhookError) -> Appended | FlowhookError:
        if isinstance(error, UnavailableError) and error.reason != "TOTAL_BACKLOG_FULL":
            raise error
        if isinstance(error, ExhaustedError | UnavailableError):
            known = await self._parts.state.find(start.event_id)
            if known is not None and known.flow_id == start.flow_id:
                return Appended(known.seq, known.id)
        return error
