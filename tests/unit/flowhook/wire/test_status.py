"""Errors on their way over gRPC: none changes its class or its reason, and none is too large to travel."""

from __future__ import annotations

import grpc
import pytest
from support.cases import cases

from flowhook import errors
from flowhook.document.diagnostics.problems import Code
from flowhook.errors import Fault, InvalidFlowError
from flowhook.wire import status

CLASSES = [
    errors.InvalidError,
    errors.UnauthenticatedError,
    errors.PermissionDeniedError,
    errors.NotFoundError,
    errors.ConflictError,
    errors.OutOfRangeError,
    errors.ExhaustedError,
    errors.UnavailableError,
    errors.InternalError,
]


class Failed(grpc.RpcError):
    """A call that failed with a status."""

    def __init__(self, error):
        self.status = status.to_status(error)

    def code(self):
        return next(code for code in grpc.StatusCode if code.value[0] == self.status.code)

    def details(self):
        return self.status.message

    def trailing_metadata(self):
        return (("grpc-status-details-bin", self.status.SerializeToString()),)


def travelled(error):
    return status.from_rpc_error(Failed(error))


@cases("kind", CLASSES)
def test_an_error_arrives_as_what_it_was(kind):
    arrived = travelled(kind("what happened", reason="REASON"))
    assert (type(arrived), arrived.reason, arrived.message) == (kind, "REASON", "what happened")


@pytest.mark.parametrize("kind", [errors.ExhaustedError, errors.UnavailableError])
def test_advice_on_retrying_travels(kind):
    assert travelled(kind("later", retry_after=7)).retry_after == 7


def test_faults_of_flow_files_travel_with_file_line_key_cause_and_code():
    faults = [Fault("0", 3, "do[0].a.call", "unknown: x", Code.FUNCTION_UNKNOWN), Fault("1", 0, "", "empty")]
    assert travelled(InvalidFlowError(faults)).faults == faults


@cases("text", ["x", "é", "語"])
@cases("count", [1, 100, 30_000])
def test_no_error_is_too_large_to_travel(text, count):
    error = InvalidFlowError([Fault(str(number), 1, text * 100, text * 1000) for number in range(count)])
    sent = Failed(error)
    # a message is percent-encoded, three characters a byte
    assert 3 * len(sent.details().encode()) + len(sent.status.SerializeToString()) < 8192
    arrived = status.from_rpc_error(sent)
    assert arrived.faults[0].file == "0"
    if count > 1:
        assert arrived.faults[-1].cause == f"and {count - len(arrived.faults) + 1} more faults"
        assert arrived.faults[-1].code == Code.MORE_PROBLEMS


@cases(
    ("details", "hint"),
    [
        ("Stream removed (Socket closed)", ""),
        ("Stream removed (recvmsg:Connection reset by peer (104))", ""),
        # a router that died before it accepted the connection
        ("failed to connect to all addresses; last error: UNAVAILABLE: recvmsg:Connection reset by peer (104)", ""),
        (
            "failed to connect to all addresses; last error: UNAVAILABLE: Socket closed",
            "; check whether it requires TLS, or a client certificate",
        ),
    ],
)
def test_only_a_connection_that_the_router_closed_unused_points_at_tls(details, hint):
    assert status.probable_cause(details) == f": it closed the connection{hint}"
