"""Failures of calls to one of several routers, as gRPC errors that carry a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import grpc
import grpc.aio

from flowhook.errors import UnavailableError
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
