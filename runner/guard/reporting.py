"""Speaks to the router on behalf of a child that can't: one that has ended, and one that does not get to run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Self

import grpc
import grpc.aio

from flowhook import logs
from flowhook.client.channel import open_channel
from flowhook.config import RunnerSettings
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.v1 import runner_service_pb2_grpc
from flowhook.wire import convert, status
from flowhook.wire.unreachable import cause_of
from runner.guard.exits import Exit

REPORT_SECONDS: Final = 30.0
"""Deadline of one call: the router records first what the child had sent. One that is away is called again."""
RETRY_SECONDS: Final = 0.5
"""Between two of them."""

_POINTLESS: Final = frozenset({grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT})
"""Answers that another call would get as well."""

RUNNER_DIED: Final = "RUNNER_DIED"

log = logs.get_logger(__name__)


class RouterReports:
    """A connection to the router of the guard's own; an async context manager."""

    def __init__(self, settings: RunnerSettings, runner_id: str) -> None:
        """Report as `runner_id`. Opens the connection with the first call.

        Raises:
            InvalidError: there is no token (`TOKEN_MISSING`), or a TLS file can't be read.
        """
        self._channel = open_channel(settings, "runner")
        self._stub = runner_service_pb2_grpc.RunnerServiceStub(self._channel)
        self._runner_id = runner_id

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close(None)

    async def exited(self, end: Exit, on_lack: Callable[[str], None]) -> None:
        """Report the end of a child, for as long as it takes; what it had is assigned again when this returns.

        A router that does not know what that is learns of the loss when its stream has been away for long enough.

        Args:
            end: to report.
            on_lack: is called with what stands in the way, as often as it does.
        """
        request = pb.ReportExitRequest(
            runner_id=self._runner_id, losses_explained=end.explained, evaluated=_evaluated(end)
        )
        while True:
            try:
                await self._stub.ReportExit(request, timeout=REPORT_SECONDS)
            except grpc.aio.AioRpcError as error:
                problem = status.from_rpc_error(error)
                on_lack(f"router: {problem.reason}{cause_of(problem.message)}")
                if error.code() in _POINTLESS:
                    return
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def renew(self) -> None:
        """Renew the leases of a child that lives but does not get to do so itself."""
        try:
            await self._stub.RenewLeases(pb.RenewLeasesRequest(runner_id=self._runner_id), timeout=REPORT_SECONDS)
        except grpc.aio.AioRpcError as error:
            log.debug("leases not renewed", code=error.code().name)


def _evaluated(end: Exit) -> pb.Outcome | None:
    if not end.lease:
        return None
    if end.error is not None:
        return pb.Outcome(lease=end.lease, faulted=convert.error_to_proto(end.error))
    return pb.Outcome(lease=end.lease, released=pb.Released(reason=RUNNER_DIED, charged=end.charged))
