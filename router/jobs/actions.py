"""Performs the action of a job on one execution."""

from __future__ import annotations

from typing import Final, NamedTuple

import attrs

from flowhook.errors import ConflictError, ExhaustedError, FlowhookError, NotFoundError, UnavailableError
from flowhook.events import ids
from flowhook.model import Status
from flowhook.model.jobs import ItemOutcome, JobAction, JobSpec
from flowhook.process import logs
from router.dispatch.execution_commands import ExecutionCommands
from router.dispatch.observers import ExecutionRecords
from router.jobs.removal import ExecutionRemoval
from router.replay.replays import Replays
from router.storage.jobs import ClaimedItem
from router.storage.model import ExecutionRecord
from router.storage.shard_state import ShardState

MAX_MESSAGE: Final = 300  # characters of the message of an outcome
# reason of an error that no further attempt mends: it must not hold up the other executions of a job
OBJECT_DAMAGED: Final = "OBJECT_DAMAGED"

# reasons for which the action does not apply to an execution (any more): it is skipped
_NOTHING_TO_DO: Final = frozenset(
    {
        "BATCH_STORED",
        "EXECUTION_ENDED",
        "EXECUTION_NOT_ENDED",
        "EXECUTION_NOT_FAILED",
        "EXECUTION_NOT_FOUND",
        "EXECUTION_NOT_SUSPENDED",
        "EXECUTION_REPLAYED",
        "EXECUTION_RESOLVED",
        "ORIGINAL_STORED",
        "PARENT_NOT_ENDED",
        "TASK_NOT_FOUND",
    }
)

# refusals, with the status of the execution, that mean for a repeated action that the first one was performed
_DONE_BEFORE: Final = frozenset(
    {
        (JobAction.CANCEL, "EXECUTION_ENDED", Status.CANCELLED),
        (JobAction.RESUME, "EXECUTION_NOT_SUSPENDED", Status.PENDING),
        (JobAction.RESUME, "EXECUTION_NOT_SUSPENDED", Status.RUNNING),
        (JobAction.RESUME, "EXECUTION_NOT_SUSPENDED", Status.WAITING),
        (JobAction.RESUME, "EXECUTION_NOT_SUSPENDED", Status.COMPLETED),
        (JobAction.RESUME, "EXECUTION_NOT_SUSPENDED", Status.FAULTED),
    }
)

log = logs.get_logger(__name__)


class ItemResult(NamedTuple):
    """The outcome of an action on one execution; see `flowhook.model.jobs.JobItem`."""

    outcome: ItemOutcome
    reason: str = ""
    message: str = ""
    new_execution_id: str = ""


@attrs.define(eq=False, repr=False, kw_only=True)
class JobActions:
    """Performs actions on executions."""

    _commands: ExecutionCommands
    _records: ExecutionRecords
    _state: ShardState
    _replays: Replays
    _removal: ExecutionRemoval

    async def perform(self, job_id: str, spec: JobSpec, item: ClaimedItem, *, repeated: bool) -> ItemResult:
        """Perform the action of a job on an execution that it has claimed.

        `repeated`: the action may have been performed already for this claim.

        Raises:
            ExhaustedError: a backlog is full: try again.
            UnavailableError: storage can't serve: try again.
        """
        try:
            return await self._perform(job_id, spec, item, repeated=repeated)
        except (ExhaustedError, UnavailableError) as error:
            if error.reason != OBJECT_DAMAGED:
                raise
            return ItemResult(ItemOutcome.FAILED, error.reason, error.message[:MAX_MESSAGE])
        except FlowhookError as error:
            if error.reason == "SHARD_LOST":
                raise UnavailableError(error.message, reason=error.reason) from error
            if repeated and isinstance(error, ConflictError):
                record = await self._records.find(item.execution_id)
                if (spec.action, error.reason, record.status) in _DONE_BEFORE:  # by an earlier attempt at this claim
                    return ItemResult(ItemOutcome.DONE)
            outcome = ItemOutcome.SKIPPED if error.reason in _NOTHING_TO_DO else ItemOutcome.FAILED
            return ItemResult(outcome, error.reason, error.message[:MAX_MESSAGE])
        except Exception:
            log.exception("action of a job failed", job=job_id, execution=item.execution_id)
            return ItemResult(ItemOutcome.FAILED, "INTERNAL", "internal error; see the router's log")

    async def _perform(self, job_id: str, spec: JobSpec, item: ClaimedItem, *, repeated: bool) -> ItemResult:
        execution_id = item.execution_id
        match spec.action:
            case JobAction.REPLAY:
                return await self._start_replay(job_id, spec, item, repeated=repeated)
            case JobAction.DELETE:
                try:
                    await self._removal.delete(execution_id)
                except NotFoundError:
                    if not repeated:
                        raise
            case JobAction.RESOLVE:
                await self._commands.resolve(execution_id, spec.reason)
            case JobAction.CANCEL:
                await self._commands.cancel(execution_id)
            case JobAction.SUSPEND:
                await self._commands.suspend(execution_id)
            case JobAction.RESUME:
                await self._commands.resume(execution_id)
        return ItemResult(ItemOutcome.DONE)

    async def _start_replay(self, job_id: str, spec: JobSpec, item: ClaimedItem, *, repeated: bool) -> ItemResult:
        original = await self._records.find(item.execution_id)
        # the same for each attempt at this claim, so that at most one replay is stored
        event_id = ids.derive(ids.slot_of(original.flow_id), item.time_ms, f"{job_id} {original.id}")
        if repeated and await self._state.find(event_id) is not None:
            return ItemResult(ItemOutcome.DONE, new_execution_id=event_id)
        if not spec.again:
            await check_not_superseded(self._state, original)
        replay = await self._replays.start(original.id, spec.replay, unless_replayed=not spec.again, event_id=event_id)
        return ItemResult(ItemOutcome.DONE, new_execution_id=replay.id)


async def check_not_superseded(state: ShardState, original: ExecutionRecord) -> None:
    latest_id = await state.superseded_by(original.seq)
    if latest_id is not None:
        failed = "" if original.replayed else ", which failed: replay that one"
        raise ConflictError(f"{original.id} has been replayed, as {latest_id}{failed}", reason="EXECUTION_REPLAYED")
