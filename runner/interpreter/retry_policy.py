"""Retry policies of the DSL: conditions, backoff, jitter and limits.

Source: dsl-reference.md, "Retry"; schema/workflow.yaml, `retryPolicy`.
"""

from __future__ import annotations

from collections.abc import Generator
from http import HTTPStatus
from typing import Any, Final

import attrs

from flowhook.attach.limits import MAX_RETRY_AFTER_MS
from flowhook.document.quantities import MAX_SECONDS, parse_duration
from flowhook.errors import InvalidError
from flowhook.model import ERROR_TYPE_BASE, WorkflowError
from runner.interpreter.errors import DESTINATION_DOWN, ExpressionFailed, Kind
from runner.interpreter.nodes import CompiledRetryPolicy, Duration, Template
from runner.interpreter.requests import Now, Request, Sleep, WithTimeout
from runner.interpreter.scope import ExpressionScope

_MAX_DELAY_MS: Final = round(MAX_SECONDS * 1000)
_MAX_DOUBLINGS: Final = 40

_TRANSIENT_KINDS: Final = frozenset({ERROR_TYPE_BASE + Kind.COMMUNICATION, ERROR_TYPE_BASE + Kind.TIMEOUT})
_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500


@attrs.define(eq=False, repr=False)
class RetryAttempts:
    """Attempts at one operation, under a retry policy."""

    _policy: CompiledRetryPolicy
    _retries: int = 0
    _failed_at_ms: int | None = None  # time of the first failure
    _followed: bool = False  # whether a try was made before its time
    limit: WithTimeout | None = attrs.field(init=False, default=None)  # timeout of the current attempt

    def saved(self) -> dict[str, Any]:
        """Return the arguments that continue from here, as JSON."""
        return {"retries": self._retries, "failed_at_ms": self._failed_at_ms, "followed": self._followed}

    @property
    def has_retries_left(self) -> bool:
        return self._policy.count is None or self._retries < self._policy.count

    def wait_for_retry(
        self, key: str, data: Any, scope: ExpressionScope, error: WorkflowError, name: str = "error", *, at_least: int
    ) -> Generator[Request, Any, bool]:
        """Wait for the delay of the policy; returns whether to make another attempt.

        The policy's expressions see `data`, the input of the attempt, and its `error` as `$<name>`. `at_least` is the
        shortest wait in milliseconds, even if the policy's delay is shorter. It is not journaled, so it decides
        nothing: if it would exceed the policy's duration, the attempt starts at the end of that.
        """
        policy = self._policy
        if not self.has_retries_left:
            return False
        with scope.with_variables({name: scope.workflow.shown(error)}):
            if not holds(policy.when, policy.except_when, data, scope):
                return False
        delay, spread = self._delay(data, scope)
        at_least = min(at_least, MAX_RETRY_AFTER_MS)
        if policy.duration is not None:
            now = yield Now(f"{key}:failed")
            self._failed_at_ms = now if self._failed_at_ms is None else self._failed_at_ms
            left = self._failed_at_ms + milliseconds(policy.duration, data, scope) - now
            if delay > left:
                return False
            at_least = min(at_least, left)
        self._retries += 1
        asks_for_pause = at_least or error.status == HTTPStatus.TOO_MANY_REQUESTS
        follows = not (self._followed or asks_for_pause)
        wait = Sleep(f"{key}:retry", max(delay, at_least), spread, error, self._retries, follows)
        yield wait
        self._followed = self._followed or wait.ended_early
        scope.tries = self._retries + 1
        if scope.events is not None:
            scope.events.retried(self._retries)
        return True

    def _delay(self, data: Any, scope: ExpressionScope) -> tuple[int, int]:
        policy, earlier = self._policy, self._retries
        if policy.delays:
            delay = policy.delays[earlier]
            return delay, round(delay * policy.share_of_jitter)
        delay = milliseconds(policy.delay, data, scope)
        if policy.backoff == "exponential":
            delay *= 2 ** min(earlier, _MAX_DOUBLINGS)
        elif policy.backoff == "linear":
            step = delay if policy.increment is None else milliseconds(policy.increment, data, scope)
            delay += step * earlier
        longest = _MAX_DELAY_MS if policy.max_delay is None else milliseconds(policy.max_delay, data, scope)
        delay = min(delay, longest, _MAX_DELAY_MS)
        if policy.full_jitter:
            return 0, delay
        if policy.jitter is None:
            return delay, 0
        least, most = (milliseconds(part, data, scope) for part in policy.jitter)
        return delay + least, max(0, most - least)


def is_transient(error: WorkflowError) -> bool:
    """Whether an effect that failed with this error may succeed on a retry."""
    if error.title == DESTINATION_DOWN:
        return False
    return error.type in _TRANSIENT_KINDS and (error.status in _TRANSIENT_STATUSES or error.status >= _SERVER_ERROR)


def milliseconds(duration: Duration, data: Any, scope: ExpressionScope) -> int:
    """Return a duration in milliseconds; raises ExpressionFailed if the result of its expression is none."""
    if isinstance(duration, int):
        return duration
    try:
        return round(parse_duration(duration(data, scope)) * 1000)
    except InvalidError as problem:
        raise ExpressionFailed(problem.message) from None


def holds(when: Template | None, except_when: Template | None, data: Any, scope: ExpressionScope) -> bool:
    """Whether `when` is true, and `except_when` is not, if there are such conditions."""
    if when is not None and not is_true(when(data, scope)):
        return False
    return except_when is None or not is_true(except_when(data, scope))


def is_true(value: Any) -> bool:
    """Whether jq treats a value as true: everything but false and null."""
    return value is not None and value is not False
