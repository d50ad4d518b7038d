"""Tasks that request effects (`call`, `emit`, `run`), with retries of transient failures.

Source: dsl-reference.md, "Call", "Emit", "Run".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Any

import orjson

from flowhook.event_input import rfc3339
from runner.interpreter import authentication, places
from runner.interpreter import data as json
from runner.interpreter.effects import EMIT, RUN_WORKFLOW, Perform, Result, idempotency_key
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.interpreter.events import cloud_event
from runner.interpreter.nodes import CallNode, EffectNode, EmitNode, PolicyPart, RunNode
from runner.interpreter.requests import AwaitEnd, Now, Request, Steps
from runner.interpreter.retrying import Attempts, is_transient, milliseconds
from runner.interpreter.scope import Scope
from runner.interpreter.state import State


def call(node: CallNode, state: State, scope: Scope, data: Any) -> Steps:
    """Call a function; returns its result."""
    policies = [(part.place, _policy(part, scope, data)) for part in node.policies]
    arguments = node.arguments(data, scope)
    if not isinstance(arguments, dict):
        raise fault(Kind.CONFIGURATION, "`with` is not an object")
    if node.endpoint is not None:
        place, expand = node.endpoint
        arguments = places.put(arguments, place, expand(data))
    for place, policy in policies:
        arguments = places.put(arguments, place, policy)
    effect = Effect(node, state, scope, data)
    result = yield from effect.perform(node.function, arguments)
    return data if node.hands_on else orjson.loads(result.output or b"null")


def emit(node: EmitNode, state: State, scope: Scope, data: Any) -> Steps:
    """Publish an event; returns the event."""
    given = node.event(data, scope)
    sink = None if node.sink is None else node.sink(data, scope)
    effect, workflow = Effect(node, state, scope, data), scope.workflow
    if isinstance(given, dict) and given.get("time") is None:
        now = yield Now(f"{effect.key}:time")
        given = {**given, "time": rfc3339(now)}
    event = cloud_event(given, idempotency_key(workflow.effect_scope, effect.key), f"/flows/{workflow.flow_id}")
    arguments = {"event": event, "execution": workflow.id, "depth": workflow.depth, "sink": sink}
    yield from effect.perform(EMIT, arguments)
    return event


def run(node: RunNode, state: State, scope: Scope, data: Any) -> Steps:
    """Run another flow; returns its output, or the input when it is not awaited.

    Unlike the keys of other effects, its idempotency key holds the execution's own ID, so that a replay from where that
    flow failed starts it again.
    """
    given = node.given(data, scope)
    json.encode_result(given, "the input")
    effect, workflow = Effect(node, state, scope, data), scope.workflow
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
    ended: Result = yield AwaitEnd(end_key, orjson.loads(started.output or b"")["execution"])
    if ended.error is not None:
        raise TaskFault(dataclasses.replace(ended.error, instance=node.pointer), cause=end_key)
    if not node.returns:
        return None
    return orjson.loads(ended.output or b"null")


class Effect:
    """An effect of a task, with one key for all attempts.

    Attributes:
        key: identity of the effect within the execution.
    """

    def __init__(self, node: EffectNode, state: State, scope: Scope, data: Any) -> None:
        self.key = state.effect_key(node.pointer)
        self._node = node
        self._state = state
        self._scope = scope
        self._data = data

    def perform(self, function: str, arguments: dict[str, Any]) -> Generator[Request, Any, Result]:
        """Request a function call and return its result, with retries of transient failures.

        Raises:
            TaskFault: the call failed, and is not retried.
        """
        node, state, scope, data = self._node, self._state, self._scope, self._data
        attempts = Attempts(node.retry)
        limit = node.retry.attempt_duration or node.timeout
        timeout = None if limit is None else milliseconds(limit, data, scope) / 1000
        while True:
            result: Result = yield Perform(
                key=self.key,
                function=function,
                arguments=arguments,
                instance=node.pointer,
                timeout=timeout,
                catchable=state.catchable,
                retried=attempts.left,
                discreet=bool(scope.workflow.secrets),
                secrets=scope.workflow.secrets,
            )
            if result.error is None:
                return result
            again = is_transient(result.error) and not state.is_caught(result.error)
            wait = result.retry_after_ms
            if not again or not (
                yield from attempts.again(self.key, data, scope, result.error.as_dict(), at_least=wait)
            ):
                raise TaskFault(result.error, wait, cause=self.key)


def _policy(part: PolicyPart, scope: Scope, data: Any) -> dict[str, Any]:
    """Return a policy with its credentials; that of the call itself sets `$authorization`."""
    policy = part.value(data, scope)
    for place, expand in part.uris:
        policy = places.put(policy, place, expand(data))
    policy, authorization = authentication.resolve(policy, scope.workflow.secrets)
    if part.is_own:
        scope.authorization = authorization
    return policy
