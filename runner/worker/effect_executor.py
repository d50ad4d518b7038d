"""Performs effects: calls one component with a deadline, an idempotency key and a bound on its result."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowhook.errors import FlowhookError
from flowhook.model import Reply
from flowhook.process import logs
from flowhook.process.settings import RunnerSettings
from runner.components.base import Component, Context, SecretReader, SharedResources
from runner.interpreter import json_codec
from runner.interpreter.effects import EffectResult, Perform, idempotency_key
from runner.interpreter.errors import Kind, TaskFault, error
from runner.interpreter.execution_context import secret_data
from runner.interpreter.redaction import Redactor
from runner.outbound.bound_client import BoundClient
from runner.outbound.destinations import CallGate, DestinationDown
from runner.outbound.http_client import HttpClient
from runner.outbound.request_bodies import NO_ATTACHMENTS, Attachments

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EffectExecutor:
    """Performs the calls of a process, with the components, HTTP client and resources that they share."""

    components: Mapping[str, Component]
    http: HttpClient
    settings: RunnerSettings
    shared: SharedResources

    async def perform(
        self,
        execution_id: str,
        effect: Perform,
        secret: SecretReader,
        attachments: Attachments = NO_ATTACHMENTS,
        gate: CallGate | None = None,
        *,
        about: Mapping[str, str] | None = None,
    ) -> EffectResult:
        """Call the function that an effect names, of an execution with these secrets and attachments.

        `gate`: stands before destinations that are down; the result then names the one that the call waits for.
        `about`: fields of its log lines; by default the execution.

        Raises nothing but `CancelledError`.
        """
        component = self.components.get(effect.function)
        if component is None:
            detail = f"this runner has no component {effect.function}; install the package that provides it"
            return _failed(effect, Kind.CONFIGURATION, detail)
        clock = asyncio.get_running_loop().time
        began = clock()
        deadline = began + (self.settings.http_timeout if effect.timeout is None else effect.timeout)
        key = idempotency_key(execution_id, effect.key)
        known: list[Any] = [effect.secrets]  # credentials used in the call, which no error may show

        async def remember(name: str) -> bytes:
            value = await secret(name)
            known.append(secret_data(value))
            return value

        context = Context(
            idempotency_key=key,
            deadline=deadline,
            log=log.bind(**(about or {"execution": execution_id}), task=effect.instance),
            secret=remember,
            http=BoundClient(self.http, key, deadline, effect.hides_url_paths, known.append, gate),
            settings=self.settings,
            shared=self.shared,
            attachments=attachments,
            _gate=gate,
        )
        result = await _call(component, effect, context)
        if result.error is not None:
            shown = Redactor(known).redact_error(result.error)
            if gate is not None:
                if result.error.type.endswith(Kind.TIMEOUT):
                    gate.timed_out()
                if gate.blocked_by:
                    return EffectResult(None, destination=gate.blocked_by)
                shown = dataclasses.replace(shown, destination=gate.failed_at)
            result = dataclasses.replace(result, error=shown)
        return result


async def _call(component: Component, effect: Perform, context: Context) -> EffectResult:
    try:
        async with asyncio.timeout_at(context.deadline):
            output = await component(effect.arguments, context)
        if isinstance(output, Reply):
            return EffectResult(json_codec.encode({"status": output.status}), reply=output)
        return EffectResult(json_codec.encode_result(output, f"the result of {component.name}"))
    except TaskFault as problem:
        return EffectResult(None, problem.at(effect.instance).error, problem.retry_after_ms)
    except DestinationDown as down:
        return _failed(effect, Kind.COMMUNICATION, f"{down.origin} is down")
    except TimeoutError:
        return _failed(effect, Kind.TIMEOUT, f"{component.name} did not end within its timeout")
    except FlowhookError as problem:
        return _failed(effect, Kind.COMMUNICATION, problem.message)
    except (Exception, SystemExit, asyncio.CancelledError) as problem:
        # a defect of a component ends one task, not the runner; only the cancellation of this call propagates
        task = asyncio.current_task()
        if isinstance(problem, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        # log the type only: the message may contain arguments of the call
        cause, place = type(problem).__name__, source_location(problem)
        context.log.error("component failed unexpectedly", component=component.name, cause=cause, place=place)  # noqa: TRY400
        return _failed(effect, Kind.RUNTIME, f"{component.name} failed unexpectedly")


def _failed(effect: Perform, kind: Kind, detail: str) -> EffectResult:
    return EffectResult(None, error(kind, detail, instance=effect.instance))


def source_location(problem: BaseException) -> str:
    """Return the file and line where an exception was raised: safe to log, unlike its message, which may hold data."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
