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
        return None if flow is None or flow.program.secrets else self._prepared(execution, flow, _NOTHING, _NOTHING)

    async def prepare(self, execution: ActiveExecution) -> Prepared | messages.Ending:
        """Fetch what an execution needs, or return how it ends; retries while the router is unavailable."""
        flow_id = execution.event.flow_id
        while True:
            try:
                flow = await self._flows.load(flow_id, execution.revision)
                names = flow.program.secrets
                values = await self._secrets.resolve(names, flow_id) if names else _NOTHING
                contents = await self._bodies.contents(execution.event, raw=flow.program.takes_raw_body)
                if not self._needs_process(execution.event):
                    return self._prepared(execution, flow, values, contents)
                options = self._options(execution, flow, contents)
                text = await self._quarantine.event_input(execution.event, **options)
                return Prepared(flow, values, self._recorded(execution, partial(orjson.loads, text), Activity.INPUT))
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

    def _prepared(
        self, execution: ActiveExecution, flow: LoadedFlow, secrets: Mapping[str, bytes], contents: Mapping[int, bytes]
    ) -> Prepared | messages.Faulted:
        options = self._options(execution, flow, contents)
        try:
            data = self._recorded(execution, lambda: workflow_input(execution.event, **options))
            return Prepared(flow, secrets, data)
        except Exception as problem:  # noqa: BLE001 - it ends this execution, not the whole process
            return messages.Faulted(report_defect(execution, problem))

    def _needs_process(self, event: Event) -> bool:
        if event.flow_id not in self._quarantine:
            return False
        return len(event.body) >= OFFLOAD_BYTES or any(name == "content-encoding" for name, _ in event.headers)

    @staticmethod
    def _options(execution: ActiveExecution, flow: LoadedFlow, contents: Mapping[int, bytes]) -> dict[str, Any]:
        """Return how `workflow_input` reads the event of an execution."""
        webhook, raw = flow.program.has_webhook, flow.program.takes_raw_body
        return {"webhook": webhook, "raw": raw, "owner": execution.attachment_owner, "contents": contents}

    def attachments(self, execution: ActiveExecution) -> EventAttachments:
        """Return the attachments of an execution's event, for its calls."""
        event = execution.event
        return EventAttachments(
            event,
            execution.attachment_owner,
            raw=execution.takes_raw_body,
            slices=lambda offset, size: self._bodies.read(event.id, offset, size),
        )

    def _recorded(self, execution: ActiveExecution, read: Callable[[], Any], activity: Activity = Activity.BODY) -> Any:
        """Run `read` on an event's body under the guard's supervision, and return its result."""
        flow_id = execution.event.flow_id
        self._supervision.record.assign(execution.lease, flow_id)
        return self._supervision.run(flow_id, INPUT, read, activity)
