"""A `call: asyncapi` with a `subscription`: receives messages of a broker, one after another.

Each message is the result of an effect. The next effect acknowledges it, so that the broker learns of it only when the
journal has it; before `foreach` runs tasks for a message, an effect of its own does that.

Source: dsl-reference.md, "AsyncAPI Subscription", "AsyncAPI Subscription Lifetime", "Subscription Iterator".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import attrs
import orjson

from runner.interpreter import snapshot
from runner.interpreter.consumed_items import ConsumedItems
from runner.interpreter.effect_tasks import RetriedEffect, call_arguments_of
from runner.interpreter.effects import idempotency_key
from runner.interpreter.nodes import SubscribeNode
from runner.interpreter.requests import PAUSE, Now, Steps
from runner.interpreter.retry_policy import is_true, milliseconds
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.state import BranchState

SUBSCRIBE: Final = "asyncapi.subscribe"  # name of the function, which no `call` may name
WAIT_SECONDS: Final = 300.0  # how long one effect waits for a message
_MARGIN_SECONDS: Final = 30.0  # for connecting, and for what is acknowledged


def run_subscribe(
    node: SubscribeNode, state: BranchState, scope: ExpressionScope, data: Any, progress: dict[str, Any] | None
) -> Steps:
    """Consume messages until the subscription ends; returns the array of them, or of what `foreach` made of them."""
    subscription = _Subscription(node, state, scope, data)
    if progress is None:
        yield from subscription.begin()
    else:
        subscription.restore(progress)
    state.set_progress(subscription.saved)
    yield from subscription.consume()
    return subscription.items.output


@attrs.define(eq=False, repr=False)
class _Subscription:
    _node: SubscribeNode
    _state: BranchState
    _scope: ExpressionScope
    _data: Any  # input of the task
    items: ConsumedItems = attrs.field(init=False)
    _name: str = attrs.field(init=False, default="")
    _until_ms: int | None = attrs.field(init=False, default=None)
    _last: dict[str, Any] | None = attrs.field(init=False, default=None)  # the message to acknowledge

    def __attrs_post_init__(self) -> None:
        self.items = ConsumedItems(self._node.foreach, self._state, self._scope, "a message")

    def begin(self) -> Steps:
        """Name the subscription, and fix its end."""
        key = self._state.effect_key(self._node.pointer, ":subscription")
        scope = idempotency_key(self._scope.workflow.effect_scope, key)
        self._name = f"flowhook-{hashlib.sha256(scope.encode()).hexdigest()[:32]}"
        self.items.begin(self._node.pointer)
        if self._node.duration is not None:
            now = yield Now(key)
            self._until_ms = now + milliseconds(self._node.duration, self._data, self._scope)

    def restore(self, progress: Mapping[str, Any]) -> None:
        self._name, self._until_ms, self._last = progress["name"], progress["until_ms"], progress["last"]
        self.items.restore(progress)

    def saved(self) -> dict[str, Any]:
        return {
            "name": self._name,
            "until_ms": self._until_ms,
            "last": self._last,
            **self.items.saved(),
        }

    def consume(self) -> Steps:
        shared, node = self._state.shared, self._node
        while True:
            if self.items.item is None:
                # between two messages the state is small: see `listen_task`
                if self._state.frame is not None:
                    snapshot.compact(shared, self._state.frame)
                if not self._goes_on():
                    break
                received = yield from self._exchange()
                self._last = received["token"]
                if received["ended"]:
                    break
                self._scope.context = shared.context
                message = received["message"]
                if message is not None and (node.filter is None or is_true(node.filter(message, self._scope))):
                    self.items.item = (message,)
                if shared.workflow.must_yield():
                    yield PAUSE
            if self.items.item is not None:
                if node.foreach is not None and self._last is not None:
                    yield from self._exchange(receive=False)
                    self._last = None
                yield from self.items.process()
        yield from self._exchange(release=True)

    def _goes_on(self) -> bool:
        node, consumed = self._node, len(self.items.output)
        if self._state.ending or (node.amount is not None and consumed >= node.amount):
            return False
        self._scope.context = self._state.shared.context
        if consumed and node.until is not None and is_true(node.until(self.items.output, self._scope)):
            return False
        return node.while_condition is None or is_true(node.while_condition(self.items.output, self._scope))

    def _exchange(self, *, receive: bool = True, release: bool = False) -> Steps:
        """Acknowledge the last message, and receive another, or release the subscription."""
        arguments = call_arguments_of(self._node, self._scope, self._data)
        arguments["subscription"] = {
            "flow": self._scope.workflow.flow_id,
            "name": self._name,
            "last": self._last,
            "until_ms": self._until_ms,
            "seconds": WAIT_SECONDS if receive and not release else 0,
            "release": release,
        }
        effect = RetriedEffect(self._node, self._state, self._scope, self._data)
        result = yield from effect.perform(SUBSCRIBE, arguments, seconds=WAIT_SECONDS + _MARGIN_SECONDS)
        return orjson.loads(result.output or b"null")
