"""Prepares executions: fetches flow, secrets and body, and builds the input from the event under the guard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import attrs
import orjson

from flowhook import limits
from flowhook.attach import messages
from flowhook.errors import ExhaustedError, FlowhookError, UnavailableError
from flowhook.events.workflow_input import workflow_input
from flowhook.model import Event
from flowhook.process import logs
from flowhook.retrying import RETRY_SECONDS
from runner.evaluation.supervision import Supervision
from runner.guard.evaluation_record import Activity
from runner.interpreter.errors import USED_SECRETS, Kind, TaskFault, error
from runner.outbound.request_bodies import EventAttachments
from runner.quarantine import INPUT
from runner.quarantine.isolated_evaluator import EvaluationInterrupted, EvaluationKilled
from runner.worker.active_execution import ActiveExecution, report_defect
from runner.worker.quarantine_driver import QuarantineDriver
from runner.worker.router_reads import BodyFetcher, LoadedFlow, ProgramCache, SecretCache

# Size from which bodies of flows in quarantine are parsed in a separate process. Parsing a smaller body takes less time
# than a request to that process. Compressed bodies are always parsed there, since their decompressed size is unknown.
OFFLOAD_BYTES: Final = 16 * limits.KIB
MAX_BATCH_INPUT: Final = 64 * limits.MIB  # JSON of events of a batch that were parsed there: compressed, they are small

_NOTHING: Final[Mapping[Any, bytes]] = {}

log = logs.get_logger(__name__)


class Prepared(NamedTuple):
    """The flow, secrets and input that an execution starts with."""

    flow: LoadedFlow  # that it runs
    secrets: Mapping[str, bytes]  # those that the flow names
    data: Any  # the input


@attrs.define(eq=False, repr=False, kw_only=True)
class ExecutionPreparer:
    """Prepares the executions of a process."""

    _flows: ProgramCache
    _secrets: SecretCache
    _bodies: BodyFetcher
    _supervision: Supervision
    _quarantine: QuarantineDriver

    def at_once(self, execution: ActiveExecution) -> Prepared | messages.Faulted | None:
        """Prepare without I/O; None: I/O is needed, see `prepare`. Blocking while the body is parsed."""
        event = execution.event
        if event.body_blob is not None or self._needs_process(event):
            return None
        flow = self._flows.cached(event.flow_id, execution.revision)
        if flow is None or flow.program.secrets or flow.program.batches:
            return None
        read = partial(workflow_input, event, **self._options(flow, execution.attachment_owner, _NOTHING))
        try:
            return Prepared(flow, _NOTHING, self._recorded(execution, read))
        except Exception as problem:  # noqa: BLE001 - it ends this execution, not the whole process
            return messages.Faulted(report_defect(execution, problem))

    async def prepare(self, execution: ActiveExecution) -> Prepared | messages.Ending:
        """Fetch what an execution needs, or return how it ends; retries while the router is unavailable."""
        flow_id = execution.event.flow_id
        while True:
            try:
                flow = await self._flows.load(flow_id, execution.revision)
                names = flow.program.secrets
                values = await self._secrets.resolve(names, flow_id) if names else _NOTHING
                return Prepared(flow, values, await self._input(execution, flow))
            except (ExhaustedError, UnavailableError) as problem:
                log.debug("router not available", reason=problem.reason)
                await asyncio.sleep(RETRY_SECONDS)
            except FlowhookError as problem:
                detail = f"{flow_id} can't be run: {problem.message}"
                return messages.Faulted(error(Kind.CONFIGURATION, detail))
            except TaskFault as problem:
                return messages.Faulted(problem.at(USED_SECRETS).error)
            except EvaluationKilled as end:
                return messages.Faulted(end.error)
            except EvaluationInterrupted:
                return messages.Released("EVALUATOR_DIED", charged=True)
            except Exception as problem:  # noqa: BLE001 - it ends this execution, not the whole process
                return messages.Faulted(report_defect(execution, problem))

    async def _input(self, execution: ActiveExecution, flow: LoadedFlow) -> Any:
        batches, activity = flow.program.batches, Activity.BODY
        reads: list[Callable[[], Any]] = []
        size = 0
        for event, owner in execution.events:
            contents = await self._bodies.contents(event, raw=flow.program.takes_raw_body)
            options = self._options(flow, owner, contents)
            if self._needs_process(event):
                activity = Activity.INPUT
                text = await self._quarantine.event_input(event, **options)
                size += len(text)
                if batches and size > MAX_BATCH_INPUT:
                    cause = f"the events of its batch have more than {MAX_BATCH_INPUT // limits.MIB} MiB, decompressed"
                    raise TaskFault(error(Kind.EXPRESSION, cause, instance=INPUT))
                reads.append(partial(orjson.loads, text))
            else:
                reads.append(partial(workflow_input, event, **options))
        # those of a batch under supervision as a whole: each is small, but together compressed bodies may be large
        return self._recorded(execution, lambda: [read() for read in reads] if batches else reads[0](), activity)

    def _needs_process(self, event: Event) -> bool:
        if event.flow_id not in self._quarantine:
            return False
        return len(event.body) >= OFFLOAD_BYTES or any(name == "content-encoding" for name, _ in event.headers)

    @staticmethod
    def _options(flow: LoadedFlow, owner: str, contents: Mapping[int, bytes]) -> dict[str, Any]:
        """Return how `workflow_input` reads an event."""
        return {
            "webhook": flow.program.has_webhook,
            "raw": flow.program.takes_raw_body,
            "owner": owner,
            "contents": contents,
        }

    def attachments(self, execution: ActiveExecution) -> EventAttachments:
        """Return the attachments of an execution's events, for its calls."""
        events = {owner: event for event, owner in execution.events}
        return EventAttachments(events, raw=execution.takes_raw_body, slices=self._bodies.read)

    def _recorded(self, execution: ActiveExecution, read: Callable[[], Any], activity: Activity = Activity.BODY) -> Any:
        """Run `read` on an event's body under the guard's supervision, and return its result."""
        flow_id = execution.event.flow_id
        self._supervision.record.assign(execution.lease, flow_id)
        return self._supervision.run(flow_id, INPUT, read, activity)
