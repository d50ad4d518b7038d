"""The replays of jobs, which are made as single ones are: checks, samples and starts them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flowhook.errors import FlowhookError
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import JobSpec
from flowhook.v1 import job_service_pb2 as pb
from flowhook.v1.execution_service_pb2 import ReplayExecutionRequest
from flowhook.wire.convert_replays import preview_to_proto, replay_to_proto
from router.jobs.actions import MAX_MESSAGE, check_not_superseded
from router.jobs.job_specs import invalid
from router.replay.replays import Replays
from router.storage.interface import ShardState
from router.storage.model import ExecutionRecord

MAX_TASKS: Final = 100
"""Tasks in each list of the preview of one execution: there are ten, and they must fit into a message."""


class JobReplays:
    """Replays the executions of jobs."""

    def __init__(self, replays: Replays, state: ShardState) -> None:
        self._replays = replays
        self._state = state

    async def check(self, request: ReplayExecutionRequest, wanted: ExecutionFilter) -> None:
        """Check how executions that meet conditions are to be replayed.

        Raises:
            InvalidError: they can't be replayed in this way, or the request has fields of a single replay
                (`JOB_INVALID`).
            ExhaustedError: too much of the flow waits to be parsed (`OVERLOADED`).
        """
        if request.execution_id or request.request_id or request.unless_replayed:
            raise invalid("`replay` of a job has neither `execution_id` nor `request_id` nor `unless_replayed`")
        await self._replays.check(request, wanted.flow_id)

    async def sampled(
        self, request: ReplayExecutionRequest, sample: Iterable[ExecutionRecord], *, again: bool
    ) -> list[pb.SampledReplay]:
        """Return what the replays of some executions would do now, or why there would be none."""
        return [await self._sampled(request, record, again=again) for record in sample]

    async def start(self, execution_id: str, spec: JobSpec, event_id: str) -> str:
        """See `router.jobs.actions.Replay`."""
        request = replay_to_proto(spec.replay, execution_id)
        request.unless_replayed = not spec.again
        return (await self._replays.start(request, event_id=event_id)).id

    async def _sampled(
        self, request: ReplayExecutionRequest, record: ExecutionRecord, *, again: bool
    ) -> pb.SampledReplay:
        single = ReplayExecutionRequest()
        single.CopyFrom(request)
        single.execution_id, single.unless_replayed = record.id, not again
        try:
            if not again:
                await check_not_superseded(self._state, record)
            preview = await self._replays.preview(single)
        except FlowhookError as error:
            return pb.SampledReplay(reason=error.reason, message=error.message[:MAX_MESSAGE])
        shown = preview._replace(taken_over=preview.taken_over[:MAX_TASKS], again=preview.again[:MAX_TASKS])
        return pb.SampledReplay(preview=preview_to_proto(shown))
