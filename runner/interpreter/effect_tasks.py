"""Tasks that request effects (`call`, `emit`, `run`), with retries of transient failures.

Source: dsl-reference.md, "Call", "Emit", "Run".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Any

import attrs
import orjson

from flowhook.events.workflow_input import rfc3339
from runner.interpreter import call_arguments, json_codec
from runner.interpreter.effects import EMIT, RUN_WORKFLOW, EffectResult, Perform, idempotency_key
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.interpreter.events import cloud_event
from runner.interpreter.nodes import ArgumentsNode, CallNode, EffectNode, EmitNode, PolicyPart, RunNode
from runner.interpreter.requests import AwaitCompletion, Now, Request, Steps
from runner.interpreter.retry_policy import RetryAttempts, is_transient, milliseconds
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.state import BranchState


def call(node: CallNode, state: BranchState, scope: ExpressionScope, data: Any, _progress: None) -> Steps:
    arguments = call_arguments_of(node, scope, data)
    result = yield from RetriedEffect(node, state, scope, data).perform(node.function, arguments)
    return data if node.passes_input else orjson.loads(result.output or b"null")


def call_arguments_of(node: ArgumentsNode, scope: ExpressionScope, data: Any) -> dict[str, Any]:
    policies = [(part.place, _policy(part, scope, data)) for part in node.policies]
    given = node.arguments(data, scope)
    if not isinstance(given, dict):
        raise fault(Kind.CONFIGURATION, "`with` must be an object")
    arguments: dict[str, Any] = given
    if node.endpoint is not None:
        place, expand = node.endpoint
        arguments = call_arguments.put(arguments, place, expand(data))
    for place, policy in policies:
        arguments = call_arguments.put(arguments, place, policy)
    return arguments


def emit(node: EmitNode, state: BranchState, scope: ExpressionScope, data: Any, _progress: None) -> Steps:
    given = node.event(data, scope)
    sink = None if node.sink is None else node.sink(data, scope)
    effect, workflow = RetriedEffect(node, state, scope, data), scope.workflow
    if isinstance(given, dict) and given.get("time") is None:
        now = yield Now(f"{effect.key}:time")
        given = {**given, "time": rfc3339(now)}
    event = cloud_event(given, idempotency_key(workflow.effect_scope, effect.key), f"/flows/{workflow.flow_id}")
    arguments = {"event": event, "execution": workflow.id, "depth": workflow.depth, "sink": sink}
    yield from effect.perform(EMIT, arguments)
    return event


def run(node: RunNode, state: BranchState, scope: ExpressionScope, data: Any, _progress: None) -> Steps:
    """Run another flow; returns its output, or the input when it is not awaited.

    Unlike the keys of other effects, its idempotency key holds the execution's own ID, so that a replay from where that
    flow failed starts it again.
    """
    given = node.flow_input(data, scope)
    json_codec.encode_result(given, "the input")
    effect, workflow = RetriedEffect(node, state, scope, data), scope.workflow
    arguments = {
        "flow": node.flow_id,
        "version": node.version,
        "input": given,
        "parent": workflow.id,
        "depth": workflow.depth,
        "key": idempotency_key(workflow.id, effect.key),
    }
    started = yield from effect.perform(RUN_WORKFLOW, arguments)
    if not node.awaited:
        return data
    end_key = f"{effect.key}:end"
    ended: EffectResult = yield AwaitCompletion(end_key, orjson.loads(started.output or b"")["execution"])
    if ended.error is not None:
        raise TaskFault(dataclasses.replace(ended.error, instance=node.pointer), cause=end_key)
    return orjson.loads(ended.output or b"null") if node.returns else None


@attrs.define(eq=False, repr=False)
class RetriedEffect:
    """An effect of a task, with one key for all attempts."""

    _node: EffectNode
    _state: BranchState
    _scope: ExpressionScope
    _data: Any
    key: str = attrs.field(init=False)  # identity of the effect within the execution

    def __attrs_post_init__(self) -> None:
        self.key = self._state.effect_key(self._node.pointer)

    def perform(
        self, function: str, arguments: dict[str, Any], *, seconds: float | None = None
    ) -> Generator[Request, Any, EffectResult]:
        """Request a function call, with retries of transient failures; raises the TaskFault of the last one.

        `seconds`: timeout of an attempt, if neither the task nor its policy sets one.
        """
        node, state, scope, data = self._node, self._state, self._scope, self._data
        attempts = RetryAttempts(node.retry)
        limit = node.timeout if node.retry.attempt_duration is None else node.retry.attempt_duration
        timeout = seconds if limit is None else milliseconds(limit, data, scope) / 1000
        while True:
            result: EffectResult = yield Perform(
                key=self.key,
                function=function,
                arguments=arguments,
                instance=node.pointer,
                timeout=timeout,
                catchable=state.catchable,
                retried=attempts.has_retries_left,
                repeatable=node.retry.count != 0,
                hides_url_paths=bool(scope.workflow.secrets),
                secrets=scope.workflow.secrets,
            )
            if result.error is None:
                return result
            error, wait = result.error, result.retry_after_ms
            retries = is_transient(error) and not state.is_caught(error)
            if not retries or not (yield from attempts.wait_for_retry(self.key, data, scope, error, at_least=wait)):
                raise TaskFault(error, wait, cause=self.key)


def _policy(part: PolicyPart, scope: ExpressionScope, data: Any) -> dict[str, Any]:
    """Return a policy with its credentials; that of the call itself sets `$authorization`."""
    policy = part.value(data, scope)
    for place, expand in part.uris:
        policy = call_arguments.put(policy, place, expand(data))
    policy, authorization = call_arguments.resolve(policy, scope.workflow.secrets)
    if part.is_own:
        scope.authorization = authorization
    return policy
