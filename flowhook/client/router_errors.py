"""Failures of calls to routers: what they mean, as gRPC errors that carry a reason, and which calls are repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import grpc
import grpc.aio

from flowhook.errors import FlowhookError, UnavailableError
from flowhook.retrying import CALL
from flowhook.wire import status
from flowhook.wire.status import probable_cause

SHARD_MOVED: Final = "SHARD_MOVED"  # a router refused the call, because it does not own the shard

NO_SERVING_ROUTER: Final = "NO_SERVING_ROUTER"
"""The call was not started, because no router is known to own the shard and to serve."""

ROUTER_LOST: Final = "ROUTER_LOST"
"""There is no connection to the owner, or it was lost before the owner answered: it may have performed the call."""

ROUTER_REPLACED: Final = "ROUTER_REPLACED"
"""Another router became the owner before the former one answered: it may have performed the call."""

OWNER_UNREACHABLE: Final = "OWNER_UNREACHABLE"
"""A router named the owner, and there is no connection to that one: it may have performed the call."""

NOT_PERFORMED: Final = frozenset({SHARD_MOVED, NO_SERVING_ROUTER})
"""Reasons that exclude that the call had an effect: it may be repeated, whatever it does."""

UNRESOLVED: Final = frozenset({"SHARD_LOST", "APPEND_ABANDONED"})
"""Reasons with which a router fails what it was storing when it lost the shard: it may be stored, or not."""

TAKEOVER: Final = NOT_PERFORMED | UNRESOLVED | {ROUTER_LOST, ROUTER_REPLACED}
"""Reasons that last only until the next owner serves."""

ANY_ROUTER: Final = "/flowhook.v1.ShardService/"
"""Prefix of the methods that every router answers: they go to the first one that can be reached."""

ANSWER_SECONDS: Final = 3.0  # time within which a router must answer one of these, before the next router is called

_LOST: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
REFUSED: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
"""Codes with which a router refuses the token: any other one would, too."""


def call_code(error: grpc.RpcError) -> grpc.StatusCode | None:
    """Return the code with which a call failed, which the type of its error does not tell; None: it has none."""
    return getattr(error, "code", lambda: None)()


def replaced(address: str) -> grpc.aio.AioRpcError:
    """Return the failure of a call that was cancelled because another router than that at `address` owns the shard."""
    return _failure(f"the router at {address} was replaced before it answered", ROUTER_REPLACED)


def lost(error: grpc.RpcError, address: str) -> grpc.RpcError:
    """Return a failure with the reason `ROUTER_LOST` if it is one of the connection to `address`; else as it is."""
    failure = status.from_rpc_error(error)
    code = call_code(error)
    if code not in _LOST or failure.reason != UnavailableError.default_reason:
        return error
    return _failure(f"can't reach the router at {address}: {failure.message}", ROUTER_LOST)


def is_unanswered(error: grpc.RpcError) -> bool:
    """Whether a call failed without the answer of a router: another may answer."""
    code = call_code(error)
    unanswered = code in _LOST or code is grpc.StatusCode.DEADLINE_EXCEEDED
    return unanswered and status.from_rpc_error(error).reason == UnavailableError.default_reason


def unreachable_owner(error: grpc.RpcError, asked: str, owner: str) -> grpc.RpcError:
    """Return the failure of a call to an `owner` whose address the router at `asked` has told."""
    cause = probable_cause(status.from_rpc_error(error).message)
    return _failure(
        f"the router at {asked} says that the one at {owner} owns the data, but that one can't be reached from here"
        f"{cause}; give the addresses of all routers, or check the FLOWHOOK_ADVERTISE of the owner",
        OWNER_UNREACHABLE,
    )


def unserved(problems: Mapping[str, grpc.RpcError | None]) -> grpc.RpcError:
    """Return the failure of a call for which no owner was found.

    `problems` has why each router did not answer, by address, in order; None: it answered, but knows no owner that
    serves.
    """
    for problem in problems.values():
        if problem is not None and call_code(problem) in REFUSED:
            return problem
    causes = ", ".join(
        f"{address} knows no owner that serves"
        if problem is None
        else f"can't reach {address}{probable_cause(status.from_rpc_error(problem).message)}"
        for address, problem in problems.items()
    )
    return _failure(f"no router serves: {causes}", NO_SERVING_ROUTER)


def _failure(message: str, reason: str) -> grpc.aio.AioRpcError:
    return status.to_rpc_error(UnavailableError(message, reason=reason))


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
