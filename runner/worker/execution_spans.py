"""Spans of executions: of each attempt (CONSUMER), of its tasks (INTERNAL), and of the requests of its calls.

The first attempt within `PARENT_SECONDS` is a child of the span by which the event was stored. Any other begins a trace
of its own, which links to that span: traces that last for days are of no use, and break sampling at their tail.

Source: semantic conventions 1.44, "Messaging spans", which want a link and permit a parent for single messages.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

import attrs
from typing_extensions import override

from flowhook.attach import messages
from flowhook.document.definition import kind_of
from flowhook.model import Event, JournalEntry, WorkflowError
from flowhook.tracing import context
from flowhook.tracing.context import TRACEPARENT, TraceContext
from flowhook.tracing.tracer import Span, SpanKind, SpanTracer
from runner.interpreter.effects import Perform
from runner.interpreter.tracing import Observation, Observer, TaskStart
from runner.outbound.call_trace import CallTrace, error_type

PARENT_SECONDS: Final = 15 * 60.0
MAX_TASKS: Final = 1000  # spans of tasks in one attempt; tasks beyond, and their calls, have none
MAX_LINKS: Final = 128  # events that the span of an execution links to
MAX_SEARCHED: Final = 4096  # bytes of an event in which its attributes are looked for, which come before its data
_EVENT_PARENT: Final = re.compile(rb'"traceparent":\s*"([0-9a-f-]{55})"')


@attrs.define(eq=False, repr=False)
class ExecutionTracing:
    """Decides how the executions of a process are traced."""

    _tracer: SpanTracer | None  # None: spans are not exported
    _runner_id: str = ""
    _queue: Literal["parent", "link"] = "parent"
    _passes: bool = True  # whether calls pass on the context
    _now: Callable[[], float] = time.time
    records: bool = attrs.field(init=False)  # whether any execution may be recorded

    def __attrs_post_init__(self) -> None:
        self.records = self._tracer is not None

    def begin(
        self, event: Event, *, attempt: int, resumed: bool, revision: int, journal: Sequence[JournalEntry] = ()
    ) -> ExecutionSpans | None:
        """Return the spans of an attempt that begins now; None: it is not recorded."""
        tracer = self._tracer
        if tracer is None:
            return None
        drawn, traceparent = tracer.draw(), event.traceparent
        if not drawn and (not traceparent or traceparent.endswith("-00")):  # whoever decided: it is not recorded
            return None
        stored = context.parse(traceparent)
        if not (stored.sampled if stored is not None and not _is_senders(event) else drawn):
            return None
        is_first = attempt == 1 and not resumed and event.replay is None
        is_recent = self._now() - event.receive_time_ms / 1000 <= PARENT_SECONDS
        parent = stored if is_first and is_recent and self._queue == "parent" and not event.batch else None
        links = () if stored is None else (stored,)
        for each in (*_woken_by(journal if resumed else ()), *(other.traceparent for other in event.batch)):
            other = context.parse(each)
            links = links if other is None or len(links) == MAX_LINKS else (*links, other)
        span = tracer.start(f"process {event.flow_id}", SpanKind.CONSUMER, parent, links=links)
        span.attributes = {
            "messaging.system": "flowhook",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": event.flow_id,
            "messaging.message.id": event.id,
            "messaging.client.id": self._runner_id,
            "flowhook.execution.id": event.id,
            "flowhook.flow.revision": revision,
            "flowhook.execution.attempt": attempt,
            "flowhook.execution.resumed": resumed,
            "flowhook.execution.replay": event.replay is not None,
        }
        if event.order_key:
            span.attributes["messaging.message.conversation_id"] = event.order_key
        if event.batch:
            span.attributes["messaging.batch.message_count"] = 1 + len(event.batch)
        return ExecutionSpans(tracer, span, context.state_of(event.headers) if self._passes else "", self._passes)

    def of_call(self, event: Event, spans: ExecutionSpans | None, effect: Perform) -> CallTrace | None:
        """Return what a call passes on, and is traced by; None: nothing."""
        if spans is not None:
            return spans.of_call(effect)
        stored = context.parse(event.traceparent) if event.traceparent else None
        if stored is None:
            return None
        if stored.sampled and self.records:  # the sender says so; who is called must not conclude that it is recorded
            stored = TraceContext(stored.trace_id, context.new_span_id())
        return CallTrace(stored, context.state_of(event.headers) if self._passes else "", passes=self._passes)


@attrs.define(eq=False, repr=False)
class ExecutionSpans(Observer):
    """The spans of one attempt; observes the tasks of its machine."""

    _tracer: SpanTracer
    _span: Span
    _state: str
    _passes: bool
    is_replaying: Callable[[], bool] = lambda: False  # whether the machine replays what earlier attempts did
    _tasks: dict[int, tuple[str, Span]] = attrs.field(init=False, factory=dict)  # key and span, by number
    _by_key: dict[str, Span] = attrs.field(init=False, factory=dict)
    _made: int = attrs.field(init=False, default=0)  # spans of tasks that ended
    _tries: dict[str, int] = attrs.field(init=False, factory=dict)  # calls begun, by the key of their effect
    _over: bool = attrs.field(init=False, default=False)

    @property
    def trace_id(self) -> str:
        return self._span.context.trace_id

    @override
    def task_started(self, started: TaskStart) -> None:
        if self._over or self._made >= MAX_TASKS:
            return
        node, key = started.node, started.key
        span = self._tracer.start(node.name, SpanKind.INTERNAL, self._enclosing(key).context)
        span.attributes = {
            "flowhook.task.name": node.name,
            "flowhook.task.type": kind_of(node.definition) or "",
            "flowhook.task.position": node.pointer,
        }
        self._tasks[started.number] = key, span
        self._by_key[key] = span

    @override
    def task_ended(self, seen: Observation) -> None:
        if seen.iterations and seen.number in self._tasks:
            self._tasks[seen.number][1].attributes["flowhook.task.iteration"] = seen.iterations
        if seen.skipped and seen.number in self._tasks:
            self._tasks[seen.number][1].attributes["flowhook.task.skipped"] = True
        self._end_task(seen.number, seen.error)

    @override
    def task_cancelled(self, number: int) -> None:
        self._end_task(number)

    def _end_task(self, number: int, error: WorkflowError | None = None) -> None:
        key, span = self._tasks.pop(number, ("", None))
        if span is None:
            return
        if self._by_key.get(key) is span:
            del self._by_key[key]
        if not self.is_replaying():  # else it ended in an earlier attempt, which had the span
            self._made += 1
            self._tracer.end(span, "" if error is None else error_type(error.type))

    def _enclosing(self, key: str) -> Span:
        """Return the span of the innermost task that encloses a place: that of the longest key which is part of it.

        `/do/1/each/do/0/send[3]` is in `/do/1/each`; within a function, `/do/0/notify#0 /do/0/send` in `/do/0/notify`.
        """
        call, space, place = key.rpartition(" ")
        path, bracket, indexes = place.partition("[")
        while path := path[: max(path.rfind("/"), 0)]:
            suffix = bracket + indexes
            while (span := self._by_key.get(call + space + path + suffix)) is None and suffix:
                suffix = suffix[: suffix.rfind("[")]
            if span is not None:
                return span
        return self._by_key.get(call.rpartition("#")[0], self._span)

    def of_call(self, effect: Perform) -> CallTrace:
        task = self._by_key.get(effect.key.rpartition("#")[0], self._span)
        earlier = self._tries.get(effect.key, 0)
        if len(self._tries) < MAX_TASKS:
            self._tries[effect.key] = earlier + 1
        tracer = self._tracer if self._made < MAX_TASKS else None  # its requests still carry the context
        return CallTrace(task.context, self._state, tracer, self._passes, earlier)

    def end(self, outcome: str, ending: messages.Ending | None) -> None:
        """End the attempt, and what it leaves unfinished."""
        if self._over:
            return
        self._over = True
        for number in list(self._tasks):
            self._tasks[number][1].attributes["flowhook.task.unfinished"] = True
            self._end_task(number)
        self._span.attributes["flowhook.execution.outcome"] = outcome
        error = error_type(ending.error.type) if isinstance(ending, messages.Faulted) else ""
        self._tracer.end(self._span, error)


def _woken_by(journal: Sequence[JournalEntry]) -> Iterator[str]:
    """Yield the `traceparent` of the event that an execution goes on with, if its last entry is one that has any."""
    found = _EVENT_PARENT.search(journal[-1].output or b"", 0, MAX_SEARCHED) if journal else None
    if found is not None:
        yield found[1].decode()


def _is_senders(event: Event) -> bool:
    """Whether an event's context is as its sender sent it: no edge has decided whether it is recorded."""
    return (TRACEPARENT, event.traceparent.encode()) in event.headers
