"""Attributes the exit of a child to the execution that caused it, and reports it to the router.

Also renews leases on behalf of a child that is blocked.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio

from flowhook.attach.codec import exit_outcome_to_proto
from flowhook.attach.messages import Faulted, Outcome, Released
from flowhook.client.channel import prepare_channel
from flowhook.model import WorkflowError
from flowhook.process import logs
from flowhook.process.settings import RunnerSettings
from flowhook.retrying import RETRY_SECONDS
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.v1 import runner_service_pb2_grpc
from flowhook.wire import status
from flowhook.wire.status import probable_cause
from runner.guard.evaluation_record import RecordSnapshot
from runner.guard.watchdog import KillDecision, is_probable_cause

# Deadline of one call: the router first records what the child had sent. Failed calls are retried.
REPORT_SECONDS: Final = 30.0
# statuses after which a retry would fail, too
_POINTLESS: Final = frozenset({grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT})

RUNNER_DIED: Final = "RUNNER_DIED"

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Exit:
    """The exit of a child, as reported to the router."""

    explained: bool  # whether the cause is known: the evaluation of `lease`, or no execution at all
    lease: bytes = b""  # of the execution that was being evaluated; empty: none, or unknown
    error: WorkflowError | None = None  # ends that execution; None: it is assigned again
    charged: bool = False  # whether assigning it again counts as an attempt
    flow_id: str = ""  # flow to put into quarantine; empty: none


def classify(decision: KillDecision | None, snapshot: RecordSnapshot, returncode: int | None, *, drained: bool) -> Exit:
    """Classify the exit of a child, after which the record has the content `snapshot`.

    `decision` is the watchdog's to kill it; None: it was not killed, or because it did not drain in time. A child that
    was told to drain (`drained`) is killed for being late, which no execution caused.
    """
    if decision is not None:
        its = decision.snapshot
        if its is None:
            return Exit(explained=False)
        return Exit(explained=True, lease=its.lease, error=decision.error, flow_id=_flow_to_isolate(its))
    if drained and returncode == -signal.SIGKILL:
        return Exit(explained=True)
    if is_probable_cause(snapshot, returncode):  # very likely the cause, but not proven
        return Exit(explained=True, lease=snapshot.lease, charged=True, flow_id=_flow_to_isolate(snapshot))
    return Exit(explained=drained)


def _flow_to_isolate(snapshot: RecordSnapshot) -> str:
    # a step of a call is not an expression: it would block a separate process just as well
    return "" if snapshot.is_step else snapshot.flow_id


class RouterReports:
    """The guard's own connection to the router.

    It is made with the first call, which few guards ever make: gRPC's threads are half of what a guard at rest takes.
    """

    def __init__(self, settings: RunnerSettings, runner_id: str) -> None:
        """Report as `runner_id`.

        Raises:
            InvalidError: there is no token (`TOKEN_MISSING`), or a TLS file can't be read.
        """
        self._open = prepare_channel(settings, "runner")
        self._channel: grpc.aio.Channel | None = None
        self._runner_id = runner_id

    async def aclose(self) -> None:
        if self._channel is not None:
            await self._channel.close(None)

    def _stub(self) -> Any:
        if self._channel is None:
            self._channel = self._open()
        return runner_service_pb2_grpc.RunnerServiceStub(self._channel)

    async def exited(self, exit_: Exit, on_lack: Callable[[str], None]) -> None:
        """Report the exit of a child, with retries; its executions are assigned again when this returns.

        A router that does not implement the call notices the loss when the stream has been gone for long enough.
        `on_lack` is called with the reason for each failed call.
        """
        request = pb.ReportExitRequest(runner_id=self._runner_id, losses_explained=exit_.explained)
        if exit_.lease:
            ending = Released(RUNNER_DIED, exit_.charged) if exit_.error is None else Faulted(exit_.error)
            request.evaluated.CopyFrom(exit_outcome_to_proto(Outcome(exit_.lease, ending)))
        while True:
            try:
                await self._stub().ReportExit(request, timeout=REPORT_SECONDS)
            except grpc.aio.AioRpcError as error:
                problem = status.from_rpc_error(error)
                on_lack(f"router: {problem.reason}{probable_cause(problem.message)}")
                if error.code() in _POINTLESS:
                    return
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def renew(self) -> None:
        """Renew the leases of a child that is alive but blocked."""
        try:
            await self._stub().RenewLeases(pb.RenewLeasesRequest(runner_id=self._runner_id), timeout=REPORT_SECONDS)
        except grpc.aio.AioRpcError as error:
            log.debug("leases not renewed", code=error.code().name)
