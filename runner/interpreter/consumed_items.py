"""The items that a `listen` task or a subscription consumes, one after another, and what `foreach` makes of each.

Source: dsl-reference.md, "Subscription Iterator".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flowhook import limits
from runner.interpreter import json_codec, tasks
from runner.interpreter.errors import Kind, fault
from runner.interpreter.nodes import ForeachBlock
from runner.interpreter.requests import Steps
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.state import BranchState


@attrs.define(eq=False, repr=False)
class ConsumedItems:
    """The output of a task that consumes items, and the item that is in progress."""

    _foreach: ForeachBlock | None
    _state: BranchState
    _scope: ExpressionScope
    _read_from: str  # what an item is read from, for error messages: "an event"
    output: list[Any] = attrs.field(init=False, factory=list)
    item: tuple[Any] | None = attrs.field(init=False, default=None)  # the one that `process` is for
    _before: Mapping[str, int] = attrs.field(init=False, factory=dict)
    _visits: dict[str, int] | None = attrs.field(init=False, default=None)
    _size: int = attrs.field(init=False, default=0)
    _inner: BranchState = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._inner = self._state.nested()

    def begin(self, pointer: str) -> None:
        self._before = self._state.visits_before(pointer)

    def restore(self, progress: Mapping[str, Any]) -> None:
        self._before, self._visits, self.output = progress["before"], progress["visits"], progress["output"]
        self._size = sum(len(json_codec.encode(item)) + 1 for item in self.output)
        self.item = None if progress["item"] is None else (progress["item"][0],)

    def saved(self) -> dict[str, Any]:
        return {
            "before": self._before,
            "visits": None if self.item is None else self._inner.visits,
            "output": self.output,
            "item": self.item,
        }

    def process(self) -> Steps:
        """Add the item, or what `foreach` makes of it, to the output; nothing if there is none."""
        if self.item is None:
            return
        foreach, (output,) = self._foreach, self.item
        if foreach is not None:
            output = yield from self._iterate(foreach, output)
        self._size += len(json_codec.encode_result(output, f"what the task read from {self._read_from}")) + 1
        if self._size > limits.MAX_RESULT_BYTES:
            raise fault(Kind.RUNTIME, f"the task's output has more than {limits.MAX_RESULT_BYTES} bytes as JSON")
        self.output.append(output)
        self.item = None

    def _iterate(self, foreach: ForeachBlock, item: Any) -> Steps:
        state, scope, index = self._state, self._scope, len(self.output)
        named = {foreach.each: item, foreach.at: index}
        inner, visits = self._inner, self._before if self._visits is None else self._visits
        inner.variables, self._visits = {**(state.variables or {}), **named}, None
        with state.iteration(inner, index, visits):
            output = yield from tasks.run_block(foreach.block, inner, item)
        state.ending = inner.ending
        with scope.with_variables(named):
            scope.context = state.shared.context
            return (yield from tasks.transform_output(foreach.output, foreach.export, state, scope, output))
