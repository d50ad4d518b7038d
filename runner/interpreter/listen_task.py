"""The `listen` task: waits for events and consumes them.

Source: dsl-reference.md, "Listen", "Event Consumption Strategy", "Correlation", "Subscription Iterator".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from flowhook import limits
from flowhook.events import cloud_events
from flowhook.model import Correlation, EventFilter
from runner.interpreter import events, json_codec, snapshot
from runner.interpreter.consumed_items import ConsumedItems
from runner.interpreter.errors import ExpressionFailed, Kind, fault
from runner.interpreter.nodes import CompiledCorrelation, CompiledStrategy, EventPattern, ListenNode
from runner.interpreter.requests import PAUSE, Listen, ReceivedEvent, Steps
from runner.interpreter.retry_policy import is_true
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.state import BranchState

MAX_EXPECTED_BYTES: Final = 1024  # limit for the JSON of one value that a correlation expects


def run_listen(
    node: ListenNode, state: BranchState, scope: ExpressionScope, data: Any, progress: dict[str, Any] | None
) -> Steps:
    """Wait for events, one after another; returns the array of what was read from them."""
    listening = _Listening(node, state, scope)
    if progress is None:
        listening.begin(data)
    else:
        listening.restore(progress)
    state.set_progress(listening.saved)
    yield from listening.receive()
    if scope.events is not None:
        scope.events.correlation_completed(listening.common)
    return listening.items.output


class _OpenStrategy:
    """Patterns of a strategy, the indexes of those still open, and the values that their correlations expect."""

    def __init__(self, strategy: CompiledStrategy) -> None:
        self.patterns, self.all = strategy.patterns, strategy.all
        self.open = list(range(len(self.patterns)))
        self.expected: list[dict[str, Any]] = [{} for _ in self.patterns]

    def saved(self) -> dict[str, Any]:
        return {"open": self.open, "expected": self.expected}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.open, self.expected = saved["open"], saved["expected"]

    def consume(self, index: int) -> bool:
        """Record that a pattern consumed an event; returns whether the strategy is satisfied."""
        if self.all:
            self.open.remove(index)
        return self.is_satisfied

    @property
    def is_satisfied(self) -> bool:
        return not self.all or not self.open


@attrs.define(eq=False, repr=False)
class _Listening:
    """A running `listen`.

    An event is consumed by a pattern of `until`, or else by the first open pattern of the strategy that matches it. If
    none matches, the event is ignored. A value that a correlation expects applies to all correlations of the same name
    that expect no other; if none expects a value, the first event sets it.
    """

    _node: ListenNode
    _state: BranchState
    _scope: ExpressionScope
    common: dict[str, Any] = attrs.field(init=False, factory=dict)
    items: ConsumedItems = attrs.field(init=False)
    _key: str = attrs.field(init=False, default="")
    _strategy: _OpenStrategy = attrs.field(init=False)
    _until: _OpenStrategy | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.items = ConsumedItems(self._node.foreach, self._state, self._scope, "an event")
        until = self._node.until
        self._strategy = _OpenStrategy(self._node.strategy)
        self._until = _OpenStrategy(until) if isinstance(until, CompiledStrategy) else None

    def begin(self, data: Any) -> None:
        """Evaluate the values that correlations expect, on the task's input."""
        self._key = self._state.effect_key(self._node.pointer)
        self.items.begin(self._node.pointer)
        for strategy in self._strategies():
            for pattern, expected in zip(strategy.patterns, strategy.expected, strict=True):
                for link in pattern.correlations:
                    if link.expected is not None:
                        expected[link.name] = _expectation(link, link.expected(data, self._scope))
                        self.common.setdefault(link.name, expected[link.name])
        if self._scope.events is not None:
            self._scope.events.correlation_started()

    def restore(self, progress: Mapping[str, Any]) -> None:
        self._key, self.common = progress["key"], progress["common"]
        self.items.restore(progress)
        for strategy, saved in zip(self._strategies(), progress["wanted"], strict=True):
            strategy.restore(saved)

    def saved(self) -> dict[str, Any]:
        return {
            "key": self._key,
            "common": self.common,
            **self.items.saved(),
            "wanted": [strategy.saved() for strategy in self._strategies()],
        }

    def receive(self) -> Steps:
        shared = self._state.shared
        while True:
            if self.items.item is None:
                # between two events the state is small: a listen that goes on for months has its journal compacted here
                if self._state.frame is not None:
                    snapshot.compact(shared, self._state.frame)
                received: ReceivedEvent = yield Listen(self._key, self._filters())
                if self._consume(received):
                    break
                if shared.workflow.must_yield():
                    yield PAUSE
            if self.items.item is not None:
                yield from self.items.process()
                if self._is_satisfied():
                    break

    def _strategies(self) -> tuple[_OpenStrategy, ...]:
        return (self._strategy,) if self._until is None else (self._strategy, self._until)

    def _filters(self) -> tuple[EventFilter, ...]:
        found: dict[EventFilter, None] = {}
        self._scope.context = self._state.shared.context
        for strategy in self._strategies():
            for index in strategy.open:
                pattern, expected = strategy.patterns[index], {**self.common, **strategy.expected[index]}
                # A value that is known narrows what the router delivers; one that is not is set by the first event.
                # For the patterns paid and sent, both correlated by `order`: after an event paid for order 5, the
                # filter that is left asks for events sent whose order is 5.
                known = (link for link in pattern.correlations if link.name in expected)
                correlations = (Correlation(link.path, json_codec.encode(expected[link.name])) for link in known)
                event_filter = pattern.literal._replace(correlations=tuple(correlations))
                lifecycle_types = events.lifecycle_types(pattern, self._scope)
                found |= dict.fromkeys((event_filter, *(event_filter._replace(type=each) for each in lifecycle_types)))
        if len(found) > limits.MAX_EVENT_FILTERS:
            detail = f"the task has {len(found)} event filters; the limit is {limits.MAX_EVENT_FILTERS}"
            raise fault(Kind.RUNTIME, detail)
        return tuple(found)

    def _consume(self, received: ReceivedEvent) -> bool:
        """Consume an event, as the current item if a pattern matches it; returns whether it ends the task."""
        self._scope.context = self._state.shared.context
        one_time = self._scope.workflow.one_time
        if received.callback and one_time is not None and received.event.get(cloud_events.ONE_TIME) is True:
            one_time.use(str(received.event.get("type")))
        # `until` comes first: an event that ends the task is not part of its output
        if self._until is not None:
            index = self._find(self._until, received)
            if index is not None:
                return self._until.consume(index)
        index = self._find(self._strategy, received)
        if index is not None:
            self._strategy.consume(index)
            self.items.item = (cloud_events.read_event(received.event, self._node.read),)
        return False

    def _find(self, strategy: _OpenStrategy, received: ReceivedEvent) -> int | None:
        passes = self._passes
        return next((i for i in strategy.open if passes(strategy.patterns[i], strategy.expected[i], received)), None)

    def _passes(self, pattern: EventPattern, expected: Mapping[str, Any], received: ReceivedEvent) -> bool:
        """Whether a pattern matches an event; its values become the expected ones where none were expected yet."""
        event, scope = received.event, self._scope
        if not events.matches(pattern, event, scope, callback=received.callback):
            return False
        addressed = received.callback and event.get(cloud_events.ONE_TIME) is True
        values = {link.name: events.correlation_value(link, event, scope) for link in pattern.correlations}
        known = {**self.common, **expected}
        # at a one-time URL the token names the execution: values that the sender leaves out are not missed
        if not addressed and not all(
            events.json_equal(value, known[name]) if name in known else value is not None
            for name, value in values.items()
        ):
            return False
        self.common = {**{name: value for name, value in values.items() if value is not None}, **self.common}
        return True

    def _is_satisfied(self) -> bool:
        until = self._node.until
        if self._state.ending:
            return True
        if until is None:
            return self._strategy.is_satisfied
        if isinstance(until, CompiledStrategy):
            return False
        self._scope.context = self._state.shared.context
        return is_true(until(self.items.output, self._scope))


def _expectation(correlation: CompiledCorrelation, value: Any) -> Any:
    """Return the evaluated value that a correlation expects, after validating it."""
    yields = f"`correlate.{correlation.name}.expect` yields"
    if value is None:
        raise ExpressionFailed(f"{yields} null, which matches no event")
    if len(json_codec.encode(value)) > MAX_EXPECTED_BYTES:
        raise ExpressionFailed(f"{yields} more than {MAX_EXPECTED_BYTES} bytes as JSON")
    return value
