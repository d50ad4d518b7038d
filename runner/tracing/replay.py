"""Replays the journal of one execution and returns its trace. Runs in a process of its own, which may be killed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs
import orjson

from flowhook.errors import InvalidError
from flowhook.events.workflow_input import (
    inlined_indexes,
    stored_attachments,
    workflow_input,
)
from flowhook.model import Event, ExecutionDetail, JournalEntry, Status, WorkflowError
from flowhook.model.execution_trace import ExecutionTrace, TracedCallback, TracedTask, TraceOutcome
from flowhook.model.own_urls import below, own_url_in, shown_url
from flowhook.payloads.field_types import with_types
from flowhook.v1.execution_service_pb2 import GetExecutionResponse
from flowhook.wire.mapping import from_proto
from runner.evaluation.evaluator import Evaluator
from runner.interpreter.effects import EffectResult, Perform, Step, WorkflowCompleted, WorkflowFaulted
from runner.interpreter.execution_context import ExecutionContext, OneTimeUrls
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.fibers import PendingRequest
from runner.interpreter.journal import DIVERGED
from runner.interpreter.nodes import Program
from runner.interpreter.program import compile_program
from runner.interpreter.requests import ExternalRequest
from runner.tracing.recorder import PLACEHOLDER, TraceLimitError, TraceRecorder, ValueTable, placeholders


@attrs.define(eq=False, repr=False)
class ReplayMachine(ExecutionMachine):
    """An execution that stops where its journal ends."""

    # called with a request and the entry of the journal that answers it, or that holds its deadline
    _on_answer: Callable[[ExternalRequest, JournalEntry], None] = attrs.field(kw_only=True)

    @property
    def pending(self) -> list[PendingRequest]:
        """Requests that the journal does not answer, in order."""
        return list(dict.fromkeys(self._fibers.pending.values()))

    @property
    def compacted(self) -> bool:
        """Whether the journal begins with a snapshot."""
        return self._journal.snapshot is not None

    def _replay(self, entry: JournalEntry) -> None:
        pending = self._fibers.pending.get(entry.key)
        if pending is not None:
            self._on_answer(pending.request, entry)
        super()._replay(entry)

    def _read_clock(self) -> bool:
        return False

    def _process_deadline(self, step: Step) -> bool:  # noqa: ARG002 - the signature of the base class
        return False


def trace_execution(definition: bytes, detail: bytes, body: bytes) -> ExecutionTrace:
    """Return the trace of an execution; see `tracer.compute_trace`. Blocking: evaluates expressions."""
    document = orjson.loads(definition)
    try:
        program = compile_program(document, Evaluator())
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise InvalidError(f"this version can't run the flow: {problem}", reason="FLOW_UNREADABLE") from None
    recorded = from_proto(GetExecutionResponse.FromString(detail), ExecutionDetail)
    return _Replay(program, document, recorded, body).trace()


class _Replay:
    def __init__(self, program: Program, definition: Mapping[str, Any], recorded: ExecutionDetail, body: bytes) -> None:
        event = recorded.event
        raw = program.takes_raw_body
        contents, self._body_missing = _contents(event, body, raw=raw)
        self._program = program
        self._definition = definition
        self._recorded = recorded
        owner = "" if event.replay is None else event.replay.attachment_owner
        self._input = workflow_input(event, webhook=program.has_webhook, raw=raw, owner=owner, contents=contents)
        if program.batches:
            others = [workflow_input(each, webhook=program.has_webhook, raw=raw) for each in event.batch]
            self._input = [self._input, *others]
            self._body_missing |= any(each.body_blob is not None for each in event.batch)
        self._secrets = placeholders(program.secrets, definition)
        self._values = ValueTable()
        self._one_time = self._one_time_urls()
        self._recorder = self._new_recorder()
        self._machine = self._new_machine(self._recorder, recorded.journal, self._one_time)

    @property
    def _is_resumed(self) -> bool:
        origin = self._recorded.event.replay
        return origin is not None and (origin.from_failed_task or bool(origin.task))

    def _new_recorder(self) -> TraceRecorder:
        # the effects of such a replay may have the keys of the original
        return TraceRecorder(self._values, "" if self._is_resumed else self._recorded.event.id)

    def _new_machine(
        self, recorder: TraceRecorder, journal: Sequence[JournalEntry], one_time: OneTimeUrls | None
    ) -> ReplayMachine:
        event = self._recorded.event
        context = ExecutionContext(
            id=event.id,
            definition=self._definition,
            raw_input=with_types(self._input, self._program.fields),
            started_at_ms=event.receive_time_ms,
            clock=lambda: event.receive_time_ms,
            secrets=self._secrets,
            depth=event.depth,
            one_time=one_time,
        )
        return ReplayMachine(self._program, context, journal, recorder, on_answer=recorder.request_answered)

    def _one_time_urls(self) -> OneTimeUrls | None:
        """Return the flow's callback URLs with a placeholder for their tokens."""
        base = below(shown_url("", self._recorded.event.flow_id, own_url_in(self._definition)))
        names = self._program.callbacks
        return OneTimeUrls(names, lambda name, _number: f"{base}{name}/{PLACEHOLDER}") if names else None

    def trace(self) -> ExecutionTrace:
        outcome: TraceOutcome = "unfinished"
        step = Step()
        try:
            step = self._last_step()
        except TraceLimitError:
            outcome = "limited"
        output: int | None = None
        error: WorkflowError | None = None
        match step.ending:
            case WorkflowCompleted(output=text):
                outcome, output = "completed", self._values.add_json(text)
            case WorkflowFaulted(error=problem):
                outcome, error = "faulted", self._recorder.traced_error(problem)
        limited, urls = outcome == "limited", self._one_time
        callbacks = [] if urls is None else [TracedCallback(name, urls.used.get(name, 0)) for name in urls.names]
        pending = () if limited or step.ending is not None else self._machine.pending
        tasks = self._recorder.finish(pending, ended=step.ending is not None)
        if self._machine.compacted:
            before = self._tasks_before({task.number for task in tasks})
            tasks = tuple(sorted((*before, *tasks), key=lambda task: task.number))
        return ExecutionTrace(
            outcome=outcome,
            tasks=tasks,
            values=tuple(self._values.values),
            output=output,
            error=error,
            compacted=self._machine.compacted,
            diverged="" if limited else self._divergence(step),
            reads_secrets=any(task.reads_secrets for task in tasks),
            body_missing=self._body_missing,
            callbacks=tuple(callbacks),
        )

    def _tasks_before(self, known: Collection[int]) -> list[TracedTask]:
        """Return the tasks before a compaction, up to the first request, whose result is not stored any more.

        A replay may have given outputs to them, which are not stored either: then none are returned.
        """
        if self._is_resumed:
            return []
        recorder = self._new_recorder()
        machine = self._new_machine(recorder, (), self._one_time_urls())
        try:
            self._advanced(machine, machine.advance())
        except TraceLimitError:
            return []
        tasks = recorder.finish(machine.pending, ended=False)
        return [task for task in tasks if task.number not in known and task.number < max(known, default=0)]

    def _last_step(self) -> Step:
        step = self._advanced(self._machine, self._machine.advance())
        failed = self._failed_effect(step)
        if failed is not None:
            # a failure that ends the execution is not journaled; it is that of the execution
            error = self._recorded.execution.error
            self._recorder.request_answered(failed, JournalEntry(failed.key, None, error))
            step = self._advanced(self._machine, self._machine.resume(failed, EffectResult(None, error)))
        return step

    @staticmethod
    def _advanced(machine: ReplayMachine, step: Step) -> Step:
        while step.paused:
            step = machine.advance()
        return step

    def _failed_effect(self, step: Step) -> Perform | None:
        error = self._recorded.execution.error
        if error is None or step.ending is not None:
            return None
        requests = [each.request for each in self._machine.pending]
        effects = [each for each in requests if isinstance(each, Perform) and each.instance == error.instance]
        return effects[0] if len(effects) == 1 else None

    def _divergence(self, step: Step) -> str:
        """Return how the trace differs from what is recorded; empty: it does not."""
        status, recorded = self._recorded.execution.status, self._recorded.output
        match step.ending:
            case WorkflowFaulted(error=problem) if problem.detail.startswith(DIVERGED):
                return problem.detail
            case _ if status not in (Status.COMPLETED, Status.FAULTED):
                return ""  # its end is not known yet, or was not its own
            case WorkflowCompleted() if status is not Status.COMPLETED:
                return f"the trace completes, but the execution is {status}"
            case WorkflowFaulted(error=problem) if status is not Status.FAULTED:
                return f"the trace faults with {problem.title}, but the execution is {status}"
            case WorkflowCompleted(output=output) if recorded is not None:
                if output != recorded and orjson.loads(output) != orjson.loads(recorded):
                    return "the output of the trace is not the recorded one"
            case None if status is Status.COMPLETED:
                return "the execution completed, but its journal does not lead to its end"
        return ""


def _contents(event: Event, body: bytes, *, raw: bool) -> tuple[dict[int, bytes], bool]:
    """Return the contents of attachments that are part of the input, and whether some of them are missing."""
    parts = stored_attachments(event, raw=raw)
    wanted = inlined_indexes(parts)
    found = {index: body[parts[index].offset : parts[index].offset + parts[index].size] for index in wanted}
    complete = {index: content for index, content in found.items() if len(content) == parts[index].size}
    return complete, len(complete) < len(wanted)
