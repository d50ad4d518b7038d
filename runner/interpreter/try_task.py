"""The `try` task: runs a block, catches its errors and retries it.

Source: dsl-reference.md, "Try", "Catch".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flowhook.model import WorkflowError
from runner.interpreter.errors import Exhausted, TaskFault
from runner.interpreter.nodes import TryNode
from runner.interpreter.requests import Directed, Steps, WithTimeout
from runner.interpreter.retry_policy import RetryAttempts, holds, milliseconds
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.state import BranchState, run_branch
from runner.interpreter.tasks import run_block


def run_try(
    node: TryNode, state: BranchState, scope: ExpressionScope, data: Any, progress: dict[str, Any] | None
) -> Steps:
    """Run a block; on an error that `catch` matches, retry the block or run the `do` of `catch`.

    A retry runs the block as if for the first time: its effects keep their keys. An error is raised again if no retry
    is left and there is neither a `do` nor a `then`.
    """
    saved = progress or {}
    task = _Try(node, state, scope, data, saved)
    if saved.get("handled") is not None:
        # a version that knew the standard by its earlier name may have taken the snapshot
        handled = {**saved["handled"], "type": scope.workflow.spelled(saved["handled"]["type"])}
        return (yield from task.handle(handled, saved.get("cause", "")))
    return (yield from task.run())


@attrs.define(eq=False, repr=False)
class _Try:
    """A running `try`.

    Its progress in a snapshot is the error being handled and its cause. Before that, it is the attempts so far, the
    timeout of the current one, and the number of earlier visits to places in the block.
    """

    _node: TryNode
    _state: BranchState
    _scope: ExpressionScope
    _data: Any
    _progress: Mapping[str, Any]
    _inner: BranchState = attrs.field(init=False)
    _attempts: RetryAttempts | None = attrs.field(init=False)
    _limit: Mapping[str, Any] | None = attrs.field(init=False)
    _visits: dict[str, int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        policy, saved = self._node.catch.retry, self._progress
        self._inner = self._state.nested(catchers=(*self._state.catchers, self._catches))
        self._attempts = None if policy is None else RetryAttempts(policy, **saved.get("attempts", {}))
        self._limit = saved.get("limit")
        self._visits = saved["visits"] if "visits" in saved else self._counted() if policy else {}

    def run(self) -> Steps:
        self._state.set_progress(self._saved)
        while True:
            try:
                return (yield from self._attempt())
            # a limit of the execution, for example of its journal: no flow may catch that and go on
            except Exhausted:
                raise
            except TaskFault as raised:
                problem = raised
            if not self._catches(problem.error):
                raise problem
            if self._attempts is not None:
                if (yield from self._wait_for_retry(self._attempts, problem)):
                    continue
                if self._node.catch.block is None and not self._node.catch.then:
                    raise problem
            return (yield from self.handle(self._scope.workflow.shown(problem.error), problem.cause))

    def handle(self, problem: dict[str, Any], cause: str) -> Steps:
        """Run the `do` of `catch` for an error; without one, the input is the output. Then take its `then`, if any.

        An error that a `raise` task raises there gets the `cause` of the handled error.
        """
        catch, state = self._node.catch, self._state
        if catch.block is None:
            return Directed(self._data, catch.then) if catch.then else self._data
        state.set_progress(lambda: {"handled": problem, "cause": cause})
        handler = state.nested(variables={**(state.variables or {}), catch.name: problem})
        try:
            output = yield from run_block(catch.block, handler, self._data)
        except TaskFault as raised:
            # a replay from the failed task begins at what failed first, not at this `raise`
            if raised.raised_by and not raised.cause:
                raised.cause = cause
            raise
        state.ending = handler.ending
        return Directed(output, catch.then) if catch.then else output

    def _attempt(self) -> Steps:
        node, inner, retry = self._node, self._inner, self._node.catch.retry
        steps = run_block(node.block, inner, self._data)
        if self._attempts is None or retry is None or retry.attempt_duration is None:
            output = yield from steps
        else:
            branch = run_branch(steps, inner)
            if self._limit is None:
                duration = milliseconds(retry.attempt_duration, self._data, self._scope)
                key = self._state.effect_key(node.pointer, ":attempt")
                limited = WithTimeout(branch, key, duration, node.pointer)
            else:
                limited = WithTimeout(branch, **self._limit)
            self._attempts.limit, self._limit = limited, None
            (result,) = yield limited
            output = result.output
        self._state.ending = inner.ending
        return output

    def _wait_for_retry(self, attempts: RetryAttempts, fault: TaskFault) -> Steps:
        name, visits = self._node.catch.name, self._state.visits
        key = self._state.effect_key(self._node.pointer)
        error, wait = fault.error, fault.retry_after_ms
        if not (yield from attempts.wait_for_retry(key, self._data, self._scope, error, name, at_least=wait)):
            return False
        # each attempt uses the same keys: the visits of the block are counted as before it. So a call that is tried
        # again has the same idempotency key, and the receiver knows it for the same call
        for counted in self._counted():
            del visits[counted]
        visits.update(self._visits)
        return True

    def _counted(self) -> dict[str, int]:
        place, visits = f"{self._node.pointer}/try/", self._state.visits
        return {counted: times for counted, times in visits.items() if counted.startswith(place)}

    def _saved(self) -> dict[str, Any]:
        attempts = self._attempts
        if attempts is None:
            return {}
        limit = None if attempts.limit is None else attempts.limit.saved()
        return {"attempts": attempts.saved(), "limit": limit, "visits": self._visits}

    def _catches(self, problem: WorkflowError) -> bool:
        catch = self._node.catch
        self._scope.context = self._state.shared.context  # tasks in the block may have changed it
        members = problem.as_dict()
        if any(members.get(name) != value for name, value in catch.filters.items()):
            return False
        if catch.when is None and catch.except_when is None:
            return True
        with self._scope.with_variables({catch.name: self._scope.workflow.shown(problem)}):
            return holds(catch.when, catch.except_when, self._data, self._scope)
