"""When to try again, and how long to wait before: the DSL's retry policies.

Source: dsl-reference.md, "Retry"; schema/workflow.yaml, `retryPolicy`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flowhook.document.duration import MAX_SECONDS, parse_duration
from flowhook.errors import InvalidError
from flowhook.model import ERROR_TYPE_BASE, WorkflowError
from runner.interpreter.errors import ExpressionFailed, Kind
from runner.interpreter.ports import Duration, Template
from runner.interpreter.requests import Now, Request, Sleep, Within
from runner.interpreter.scope import Scope

MAX_RETRY_AFTER_MS: Final = 300_000
"""How long a server may ask for with `Retry-After`."""

_MAX_DELAY_MS: Final = round(MAX_SECONDS * 1000)
_MAX_DOUBLINGS: Final = 40

_TRANSIENT_KINDS: Final = frozenset({ERROR_TYPE_BASE + Kind.COMMUNICATION, ERROR_TYPE_BASE + Kind.TIMEOUT})
_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry policy, compiled.

    Attributes:
        when: must be true for another try; evaluated on the input of what is tried.
        except_when: must not be true.
        backoff: `constant`, `linear` (grows by `increment`, or by the delay) or `exponential` (doubles).
        jitter: from, to: a random time between them is added.
        full_jitter: the delay is random, between none and what the backoff says.
        count: how many retries; None: any number.
        attempt_duration: how long one try may take.
        duration: how long after the first failure another try may begin.
    """

    when: Template | None = None
    except_when: Template | None = None
    delay: Duration = 0
    backoff: str = "constant"
    increment: Duration | None = None
    jitter: tuple[Duration, Duration] | None = None
    full_jitter: bool = False
    count: int | None = None
    attempt_duration: Duration | None = None
    duration: Duration | None = None


DEFAULT: Final = Retry(delay=1000, backoff="exponential", full_jitter=True, count=4)
"""What transient failures of calls get when neither flow nor task says otherwise: at most 1, 2, 4 and 8 s."""


class Attempts:
    """The attempts at one thing, under a policy.

    Attributes:
        limit: of the present attempt.
    """

    def __init__(self, policy: Retry, saved: Mapping[str, Any] | None = None) -> None:
        """Begin, or go on from what was `saved`."""
        self._policy = policy
        self._retries: int = saved["retries"] if saved else 0
        self._failed_at: int | None = saved["failed_at_ms"] if saved else None
        self.limit: Within | None = None

    def saved(self) -> dict[str, Any]:
        """Return how many there were and when the first one failed, as JSON."""
        return {"retries": self._retries, "failed_at_ms": self._failed_at}

    @property
    def left(self) -> bool:
        """Whether the policy's count allows one more."""
        return self._policy.count is None or self._retries < self._policy.count

    def again(
        self, key: str, data: Any, scope: Scope, error: Mapping[str, Any], name: str = "error", *, at_least: int = 0
    ) -> Generator[Request, Any, bool]:
        """Wait as long as the policy says; whether there is another attempt after that.

        Args:
            key: of the wait.
            data: input of what is tried, for the policy's expressions.
            scope: of the task.
            error: why it failed, as `$<name>`.
            name: of the variable.
            at_least: milliseconds to wait, whatever the policy says of the delay. It is not journaled, so it decides
                nothing: where it would exceed the policy's duration, the attempt comes at the end of that.
        """
        policy = self._policy
        if not self.left:
            return False
        with scope.naming({name: error}):
            wanted = policy.when is None or is_true(policy.when(data, scope))
            if not wanted or (policy.except_when is not None and is_true(policy.except_when(data, scope))):
                return False
        delay, spread = self._delay(data, scope)
        at_least = min(at_least, MAX_RETRY_AFTER_MS)
        if policy.duration is not None:
            now = yield Now(f"{key}:failed")
            self._failed_at = now if self._failed_at is None else self._failed_at
            left = self._failed_at + milliseconds(policy.duration, data, scope) - now
            if delay > left:
                return False
            at_least = min(at_least, left)
        self._retries += 1
        yield Sleep(f"{key}:retry", max(delay, at_least), spread)
        scope.tries = self._retries + 1
        if scope.telling is not None:
            scope.telling.retried(self._retries)
        return True

    def _delay(self, data: Any, scope: Scope) -> tuple[int, int]:
        policy, earlier = self._policy, self._retries
        delay = milliseconds(policy.delay, data, scope)
        if policy.backoff == "exponential":
            delay *= 2 ** min(earlier, _MAX_DOUBLINGS)
        elif policy.backoff == "linear":
            step = delay if policy.increment is None else milliseconds(policy.increment, data, scope)
            delay += step * earlier
        delay = min(delay, _MAX_DELAY_MS)
        if policy.full_jitter:
            return 0, delay
        if policy.jitter is None:
            return delay, 0
        least, most = (milliseconds(part, data, scope) for part in policy.jitter)
        return delay + least, max(0, most - least)


def is_transient(error: WorkflowError) -> bool:
    """Whether an effect that failed so may do better when it is tried again."""
    return error.type in _TRANSIENT_KINDS and (error.status in _TRANSIENT_STATUSES or error.status >= _SERVER_ERROR)


def milliseconds(duration: Duration, data: Any, scope: Scope) -> int:
    """Return a duration that may be an expression.

    Raises:
        ExpressionFailed: it is no duration.
    """
    if isinstance(duration, int):
        return duration
    try:
        return round(parse_duration(duration(data, scope)) * 1000)
    except InvalidError as problem:
        raise ExpressionFailed(problem.message) from None


def is_true(value: Any) -> bool:
    """Return whether jq takes a value for true: everything but false and null."""
    return value is not None and value is not False
