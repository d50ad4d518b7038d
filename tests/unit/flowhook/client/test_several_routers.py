"""What clients of several routers repeat, and how they explain what failed."""

from __future__ import annotations

import grpc
import pytest

from flowhook.client import router_errors
from flowhook.client.router_errors import RETRY_SECONDS, TAKEOVER_SECONDS, CallRetries, translate
from flowhook.errors import ConflictError, UnavailableError
from flowhook.wire import status

ONE, SEVERAL = "a:1", "a:1,b:2"
LOST = status.to_rpc_error(UnavailableError("gone", reason=router_errors.ROUTER_LOST))


def failure(code, details="details of gRPC"):
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details, None)


def time_of_attempts(target, error, *, repeatable=True, timeout=60.0):
    attempts, waited = CallRetries(repeatable, target, timeout, 0.0), 0.0
    with pytest.raises(UnavailableError):  # noqa: PT012 - it ends the loop
        while True:
            waited += attempts.delay_after(error, waited)
    return waited


def test_several_routers_are_given_the_time_of_a_takeover():
    unavailable = failure(grpc.StatusCode.UNAVAILABLE)
    assert time_of_attempts(ONE, unavailable) <= RETRY_SECONDS
    assert RETRY_SECONDS < time_of_attempts(SEVERAL, unavailable) <= TAKEOVER_SECONDS
    assert time_of_attempts(SEVERAL, unavailable, timeout=4.0) <= 4.0


@pytest.mark.parametrize("reason", ["SHARD_MOVED", "NO_SERVING_ROUTER"])
def test_what_no_router_has_performed_is_repeated_whatever_it_is(reason):
    assert time_of_attempts(SEVERAL, status.to_rpc_error(UnavailableError("why", reason=reason)), repeatable=False)


@pytest.mark.parametrize("reason", ["ROUTER_LOST", "ROUTER_REPLACED", "STORAGE_UNAVAILABLE"])
def test_what_a_router_may_have_performed_is_repeated_only_if_that_is_harmless(reason):
    error = status.to_rpc_error(UnavailableError("why", reason=reason))
    assert time_of_attempts(SEVERAL, error, repeatable=False) == 0
    assert time_of_attempts(SEVERAL, error)


def test_a_lost_connection_is_described_as_that_of_one_router_is():
    assert translate(LOST, SEVERAL).reason == "ROUTER_UNREACHABLE"
    assert translate(LOST, SEVERAL).message == "can't reach the routers at a:1,b:2; are they running?"
    late = translate(failure(grpc.StatusCode.DEADLINE_EXCEEDED), SEVERAL, 3.0)
    assert (late.reason, late.message) == ("ROUTER_TIMEOUT", "the routers at a:1,b:2 did not answer within 3 s")


def test_a_failed_connection_is_told_from_the_failure_of_a_router():
    of_router = status.to_rpc_error(UnavailableError("full", reason="STORAGE_FULL"))
    conflict = status.to_rpc_error(ConflictError("no"))
    assert router_errors.lost(of_router, "a:1") is of_router
    assert router_errors.lost(conflict, "a:1") is conflict
    for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        lost = status.from_rpc_error(router_errors.lost(failure(code), "a:1"))
        assert (type(lost), lost.reason) == (UnavailableError, "ROUTER_LOST")
        assert "a:1: details of gRPC" in lost.message
    late = failure(grpc.StatusCode.DEADLINE_EXCEEDED)
    assert router_errors.lost(late, "a:1") is late


def test_a_missing_owner_is_explained_by_every_router():
    refused = failure(grpc.StatusCode.UNAVAILABLE, "Tls handshake failed (TSI_PROTOCOL_FAILURE)")
    error = status.from_rpc_error(router_errors.unserved({"a:1": refused, "b:2": None}))
    assert error.reason == "NO_SERVING_ROUTER"
    assert error.message.startswith("no router serves: can't reach a:1: the TLS handshake failed")
    assert error.message.endswith("b:2 knows no owner that serves")


def test_a_refused_token_is_reported_as_such():
    refused = failure(grpc.StatusCode.UNAUTHENTICATED)
    assert router_errors.unserved({"a:1": None, "b:2": refused}) is refused


def test_an_error_survives_the_way_through_a_call():
    error = status.from_rpc_error(status.to_rpc_error(UnavailableError("why", reason="R", retry_after=7)))
    assert (error.message, error.reason, error.retry_after) == ("why", "R", 7)
