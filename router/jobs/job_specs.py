"""Reads what a job is to do from requests, stores it, and finds, counts and samples the executions that match."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import attrs

from flowhook.errors import InvalidError
from flowhook.events import ids
from flowhook.model.execution_filter import ALL, ExecutionFilter
from flowhook.model.jobs import DEFAULT_RATE, MAX_COUNTED, MAX_RATE, MAX_REASON, PREFIX, JobAction, JobSpec
from flowhook.v1 import job_service_pb2 as pb
from flowhook.v1.execution_service_pb2 import ExecutionFilter as ExecutionFilterPb
from flowhook.wire.mapping import from_proto, to_proto
from router.dispatch.observers import meets, stored_conditions
from router.dispatch.shard_runtime import ShardRuntime
from router.executions.reading import read_filter
from router.storage.limits import DEFAULT_PAGE
from router.storage.model import ExecutionPage, ExecutionRecord

SAMPLE: Final = 10  # executions of a preview
COUNT_SECONDS: Final = 5.0  # longest time that a preview counts; then it reports that there may be more
invalid: Final = partial(InvalidError, reason="JOB_INVALID")


def split_spec(spec: JobSpec) -> tuple[bytes, bytes]:
    message = to_proto(spec, pb.JobSpec)
    data = message.replay.input.body or message.replay.output
    return _with_data(message, b"").SerializeToString(), data


def load_spec(stored: bytes, data: bytes) -> JobSpec:
    """Return what a job does, given what `split_spec` returned; without data, what is shown of it."""
    return from_proto(_with_data(pb.JobSpec.FromString(stored), data), JobSpec)


def _with_data(message: pb.JobSpec, data: bytes) -> pb.JobSpec:
    if message.replay.HasField("input"):
        message.replay.input.body = data
    if message.replay.HasField("output"):
        message.replay.output = data
    return message


def read_spec(message: pb.JobSpec) -> JobSpec:
    read_conditions(message.filter)
    try:
        spec = from_proto(message, JobSpec)
    except KeyError:
        raise invalid(f"`action` must be one of {', '.join(JobAction)}") from None
    if spec.action is not JobAction.REPLAY and (message.HasField("replay") or spec.again):
        raise invalid("`replay` and `again` are for the action replay only")
    spec = replace(spec, rate=spec.rate or DEFAULT_RATE)
    if not 0 < spec.rate <= MAX_RATE:
        raise invalid(f"`rate` must be above 0 and at most {MAX_RATE:g} executions per second")
    if len(spec.reason) > MAX_REASON:
        raise invalid(f"`reason` must have at most {MAX_REASON} characters")
    return spec


def read_conditions(message: ExecutionFilterPb) -> ExecutionFilter:
    """Return the conditions of a request, at least one (else `FILTER_EMPTY`); for errors see `read_filter`."""
    conditions = read_filter(message)
    if conditions == ALL:
        raise InvalidError(
            "the filter has no condition, so it would match all executions: give at least one, such as a flow, a"
            " status or a time",
            reason="FILTER_EMPTY",
        )
    return conditions


@dataclass(frozen=True, slots=True)
class Preview:
    """Number of executions that match, whether there are, or may be, more, and the oldest of them."""

    count: int
    more: bool
    sample: list[ExecutionRecord]


@attrs.define(eq=False, repr=False)
class MatchingExecutions:
    """Reads executions that match a filter, oldest first."""

    _runtime: ShardRuntime

    async def next(
        self,
        execution_filter: ExecutionFilter,
        *,
        after_seq: int = 0,
        last_seq: int | None = None,
        limit: int = DEFAULT_PAGE,
    ) -> ExecutionPage:
        """Return the next executions that match now; see `ShardState.walk_executions`."""
        stored = stored_conditions(execution_filter)
        walk = await self._runtime.parts.state.walk_executions(
            stored, after_seq=after_seq, last_seq=last_seq, limit=limit
        )
        current = await self._runtime.executions.current(walk.records)
        return walk._replace(records=[record for record in current if meets(record, execution_filter)])

    async def preview(self, execution_filter: ExecutionFilter) -> Preview:
        """Count the executions that match now, up to `MAX_COUNTED`."""
        clock = self._runtime.parts.clock
        deadline = clock() + COUNT_SECONDS
        sample: list[ExecutionRecord] = []
        count = 0
        after: int | None = 0
        while after is not None and count <= MAX_COUNTED and clock() < deadline:
            records, after = await self.next(execution_filter, after_seq=after)
            count += len(records)
            sample += records[: SAMPLE - len(sample)]
        return Preview(min(count, MAX_COUNTED), count > MAX_COUNTED or after is not None, sample)


def mint_job_id(now_ms: int) -> str:
    return PREFIX + ids.mint(os.urandom(1)[0], now_ms=now_ms).removeprefix(ids.PREFIX)
