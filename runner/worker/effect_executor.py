"""Performs effects: calls one component with a deadline, an idempotency key and a bound on its result."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from flowhook.errors import FlowhookError
from flowhook.model import Reply
from flowhook.process import logs
from flowhook.process.settings import RunnerSettings
from runner import metrics
from runner.components.base import Component, Context, SecretReader, SharedResources
from runner.interpreter import json_codec
from runner.interpreter.effects import EffectResult, Perform, idempotency_key
from runner.interpreter.errors import Kind, TaskFault, error
from runner.interpreter.execution_context import secret_data
from runner.interpreter.redaction import Redactor
from runner.outbound.bound_client import BoundClient
from runner.outbound.http_client import HttpClient
from runner.outbound.request_bodies import NO_ATTACHMENTS, Attachments

log = logs.get_logger(__name__)


class _CallResources(NamedTuple):
    """Resources that an execution provides to its call; `on_credential` collects those used in it, for redaction."""

    secret: SecretReader
    on_credential: Callable[[str], None]
    attachments: Attachments


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
    ) -> EffectResult:
        """Call the function that an effect names. Raises nothing but `CancelledError`.

        Args:
            execution_id: part of the Idempotency-Key.
            effect: the function to call and its arguments.
            secret: resolves secrets for the component.
            attachments: the attachments that the call may use.
        """
        component = self.components.get(effect.function)
        if component is None:
            return EffectResult(
                None,
                error(
                    Kind.CONFIGURATION,
                    f"this runner has no component {effect.function}; install the package that provides it",
                    instance=effect.instance,
                ),
            )
        clock = asyncio.get_running_loop().time
        began = clock()
        known: list[Any] = [effect.secrets]

        async def remember(name: str) -> bytes:
            value = await secret(name)
            known.append(secret_data(value))
            return value

        call = _CallResources(remember, known.append, attachments)
        result = await self._call(component, execution_id, effect, call)
        if result.error is not None:
            result = dataclasses.replace(result, error=Redactor(known).redact_error(result.error))
        outcome = "ok" if result.error is None else "error"
        metrics.CALLS.labels(effect.function, outcome).observe(clock() - began)
        return result

    async def _call(
        self,
        component: Component,
        execution_id: str,
        effect: Perform,
        call: _CallResources,
    ) -> EffectResult:
        timeout = self.settings.http_timeout if effect.timeout is None else effect.timeout
        deadline = asyncio.get_running_loop().time() + timeout
        key = idempotency_key(execution_id, effect.key)
        http = BoundClient(self.http, key, deadline, effect.hides_url_paths, call.on_credential)
        context = Context(
            idempotency_key=key,
            deadline=deadline,
            log=log.bind(execution=execution_id, task=effect.instance),
            secret=call.secret,
            http=http,
            settings=self.settings,
            shared=self.shared,
            attachments=call.attachments,
        )
        try:
            async with asyncio.timeout_at(deadline):
                output = await component(effect.arguments, context)
            if isinstance(output, Reply):
                return EffectResult(json_codec.encode({"status": output.status}), reply=output)
            return EffectResult(json_codec.encode_result(output, f"the result of {component.name}"))
        except TaskFault as problem:
            return EffectResult(None, problem.at(effect.instance).error, problem.retry_after_ms)
        except TimeoutError:
            return EffectResult(
                None, error(Kind.TIMEOUT, f"{component.name} did not end within its timeout", instance=effect.instance)
            )
        except FlowhookError as problem:
            return EffectResult(None, error(Kind.COMMUNICATION, problem.message, instance=effect.instance))
        except (Exception, SystemExit, asyncio.CancelledError) as problem:
            # a defect of a component ends one task, not the runner; only the cancellation of this call propagates
            task = asyncio.current_task()
            if isinstance(problem, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            # log the type only: the message may contain arguments of the call
            log.error(  # noqa: TRY400
                "component failed unexpectedly",
                component=component.name,
                execution=execution_id,
                task=effect.instance,
                cause=type(problem).__name__,
                place=source_location(problem),
            )
            return EffectResult(
                None,
                error(Kind.RUNTIME, f"{component.name} failed unexpectedly", instance=effect.instance),
            )


def source_location(problem: BaseException) -> str:
    """Return the file and line where an exception was raised: safe to log, unlike its message, which may hold data."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
