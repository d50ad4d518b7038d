"""Retry policy and error translation of client calls, shared by both clients."""

from __future__ import annotations

from typing import Final

import grpc

from flowhook.client.router_errors import NOT_PERFORMED, ROUTER_LOST, call_code
from flowhook.errors import FlowhookError, UnavailableError
from flowhook.retrying import CALL
from flowhook.wire import status
from flowhook.wire.status import probable_cause

RETRY_SECONDS: Final = 2.0
"""Time for which a repeatable call is retried while the router is unavailable: about as long as a restart takes."""

TAKEOVER_SECONDS: Final = 15.0
"""The same if the client knows several routers: until another of them has taken over, with a margin."""

_CONNECTION: Final = frozenset({UnavailableError.default_reason, ROUTER_LOST})
"""Reasons of failures that no router reports: the call had no response."""


class CallRetries:
    """Retry state of one call: deadline, and exponential backoff between attempts.

    The times `now` are seconds of a monotonic clock.
    """

    def __init__(self, repeatable: bool, target: str, timeout: float, now: float) -> None:  # noqa: FBT001 - a fact, not a switch
        self._repeatable = repeatable
        self._target = target
        self._timeout = timeout
        self._deadline = now + timeout
        self._give_up = now + min(TAKEOVER_SECONDS if "," in target else RETRY_SECONDS, timeout)
        self._pauses = CALL.pauses()
        self._delay = next(self._pauses)

    def remaining(self, now: float) -> float:
        """Return the seconds that are left for an attempt that starts now."""
        return max(self._deadline - now, 0.001)

    def delay_after(self, error: grpc.RpcError | FlowhookError, now: float) -> float:
        """Return the seconds to wait before the next attempt.

        Args:
            error: the failure of the last attempt, or what its response reports.
            now: the time.

        Raises:
            FlowhookError: the call must not be attempted again; the error is its outcome.
        """
        failure = error if isinstance(error, FlowhookError) else translate(error, self._target, self._timeout)
        repeatable = self._repeatable or failure.reason in NOT_PERFORMED
        if not (repeatable and isinstance(failure, UnavailableError)) or now + self._delay > self._give_up:
            raise failure from None
        delay, self._delay = self._delay, next(self._pauses)
        return delay


def translate(error: grpc.RpcError, target: str, timeout: float | None = None) -> FlowhookError:
    """Return the error of a failed call; gRPC's own messages about an unreachable router are put in plain words."""
    failure = status.from_rpc_error(error)
    if isinstance(failure, UnavailableError) and failure.reason in _CONNECTION:
        code = call_code(error)
        router = f"the routers at {target}" if "," in target else f"the router at {target}"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            within = "" if timeout is None else f" within {timeout:g} s"
            return UnavailableError(f"{router} did not answer{within}", reason="ROUTER_TIMEOUT")
        running = "; are they running?" if "," in target else "; is it running?"
        message = f"can't reach {router}{probable_cause(failure.message) or running}"
        return UnavailableError(message, reason="ROUTER_UNREACHABLE")
    return failure
