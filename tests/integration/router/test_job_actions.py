"""Actions of jobs that are repeated for a claim, as after a crash: what was done before is done, and done once."""

from __future__ import annotations

import pytest

from flowhook import limits
from flowhook.attach.messages import Parked
from flowhook.events import ids
from flowhook.model import Retry, Status, WorkflowError
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import ItemOutcome, JobAction, JobSpec
from flowhook.v1 import envelope_pb2
from router.jobs.job_runner import ItemResult, JobActions
from router.jobs.removal import ExecutionRemoval
from router.storage.commit_log.interface import ObjectDamagedError
from router.storage.jobs import ClaimedItem
from router.storage.model import Ended, NewEvent

DONE = ItemResult(ItemOutcome.DONE)


class Acting:
    """Performs actions on the executions of a shard."""

    def __init__(self, shard):
        self.shard = shard
        self.replays = []
        removal = ExecutionRemoval(shard.host, shard.storage)
        self.actions = JobActions(shard.host, replays=self, removal=removal)

    async def start(self, execution_id, _options, *, unless_replayed, event_id):
        assert unless_replayed
        self.replays.append(execution_id)
        await self.shard.host.append([NewEvent(event_id, "a", 1, 1000, b"payload", replay_of=execution_id)])
        return await self.shard.host.executions.find(event_id)

    async def __call__(self, action, seq, *, repeated=False):
        self.item = ClaimedItem(1, seq, (await self._id(seq)) or "evt_gone", 5_000)
        spec = JobSpec(action, ExecutionFilter(flow_id="a"), reason="r")
        return await self.actions.perform("job_1", spec, self.item, repeated=repeated)

    async def again(self, action):
        spec = JobSpec(action, ExecutionFilter(flow_id="a"), reason="r")
        return await self.actions.perform("job_1", spec, self.item, repeated=True)

    async def _id(self, seq):
        found = await self.shard.state.records([seq])
        return found[seq].id if seq in found else ""


@pytest.fixture
def acting(shard):
    return Acting(shard)


async def test_a_cancelled_execution_was_cancelled_by_the_claim_if_it_is_repeated(shard, acting):
    (seq,) = await shard.append()
    assert await acting(JobAction.CANCEL, seq) == DONE
    assert await acting.again(JobAction.CANCEL) == DONE
    other = await acting(JobAction.CANCEL, seq)
    assert (other.outcome, other.reason) == (ItemOutcome.SKIPPED, "EXECUTION_ENDED")


async def test_a_suspended_execution_is_suspended_and_resumed_once(shard, acting):
    (seq,) = await shard.append()
    for action, status in [(JobAction.SUSPEND, Status.SUSPENDED), (JobAction.RESUME, Status.PENDING)]:
        assert [await acting(action, seq), await acting.again(action)] == [DONE, DONE]
        assert (await shard.record(seq)).status is status
    assert (await acting(JobAction.RESUME, seq)).reason == "EXECUTION_NOT_SUSPENDED"


async def test_an_execution_that_was_retried_is_retried_once(shard, acting):
    (seq,) = await shard.append()
    assert (await acting(JobAction.RETRY, seq)).reason == "EXECUTION_NOT_RETRYING"
    link = shard.attach()
    (delivery,) = await link.next()
    retry = Retry(WorkflowError("about:blank", 503, "Away"), 1, 10**15, keys=("/do/0/a#0:retry",))
    await shard.settle(link, delivery, Parked(10**15, (), retry))
    assert [await acting(JobAction.RETRY, seq), await acting.again(JobAction.RETRY)] == [DONE, DONE]
    assert (await acting(JobAction.RETRY, seq)).outcome is ItemOutcome.SKIPPED


async def test_a_deleted_execution_was_deleted_by_the_claim_if_it_is_repeated(shard, acting):
    (seq,) = await shard.append()
    assert (await acting(JobAction.DELETE, seq)).reason == "EXECUTION_NOT_ENDED"
    await acting(JobAction.CANCEL, seq)
    assert [await acting(JobAction.DELETE, seq), await acting.again(JobAction.DELETE)] == [DONE, DONE]
    assert (await acting(JobAction.DELETE, 99)).reason == "EXECUTION_NOT_FOUND"


async def _ended(shard, seq, status):
    await shard.state.write([Ended(seq, status, 2_000 + seq, 1)])


async def _unresolved(shard):
    return {each.id for each in (await shard.state.list_executions(ExecutionFilter(unresolved=True))).records}


async def test_of_several_replays_none_is_deleted_before_an_earlier_one_that_failed(shard, acting):
    seqs = await shard.append("a", b"")
    original = await acting._id(seqs[0])
    for _ in range(2):
        seqs += await shard.append("a", b"", replay_of=original)
    for seq, status in zip(seqs, (Status.FAULTED, Status.FAULTED, Status.COMPLETED), strict=True):
        await _ended(shard, seq, status)
    assert await _unresolved(shard) == set()
    assert await acting(JobAction.DELETE, seqs[0]) == DONE
    assert (await acting(JobAction.DELETE, seqs[2])).reason == "ORIGINAL_STORED"
    assert await _unresolved(shard) == set()
    assert [await acting(JobAction.DELETE, seq) for seq in seqs[1:]] == [DONE, DONE]


@pytest.mark.parametrize("large", [False, True])
async def test_an_execution_is_not_deleted_before_the_one_that_started_it_has_ended(shard, acting, large):
    (parent,) = await shard.append()
    body = b"x" * limits.INLINE_BODY_BYTES if large else b""
    event = envelope_pb2.Event(parent_execution_id=await acting._id(parent), body=body)
    (child,) = await shard.append("a", event.SerializeToString())
    await acting(JobAction.CANCEL, child)
    refused = await acting(JobAction.DELETE, child)
    assert (refused.outcome, refused.reason) == (ItemOutcome.SKIPPED, "PARENT_NOT_ENDED")
    assert await shard.record(child)
    await acting(JobAction.CANCEL, parent)
    (replay,) = await shard.append("a", b"", replay_of=await acting._id(parent))  # it has the same sub-flows
    assert (await acting(JobAction.DELETE, child)).reason == "PARENT_NOT_ENDED"
    await acting(JobAction.CANCEL, replay)
    assert await acting(JobAction.DELETE, child) == DONE


async def test_a_replay_is_started_once_for_a_claim(shard, acting):
    (seq,) = await shard.append()
    await acting(JobAction.CANCEL, seq)
    first = await acting(JobAction.REPLAY, seq)
    assert first.new_execution_id == ids.derive(ids.slot_of("a"), 5_000, f"job_1 {acting.item.execution_id}")
    assert await acting.again(JobAction.REPLAY) == first
    assert acting.replays == [acting.item.execution_id]


async def test_an_execution_whose_request_is_damaged_fails_and_does_not_hold_up_the_others(shard, acting, monkeypatch):
    (seq,) = await shard.append()
    await acting(JobAction.CANCEL, seq)

    async def damaged(*_arguments, **_more):
        raise ObjectDamagedError("the object is not what was stored")

    monkeypatch.setattr(acting, "start", damaged)
    result = await acting(JobAction.REPLAY, seq)
    assert (result.outcome, result.reason) == (ItemOutcome.FAILED, "OBJECT_DAMAGED")


async def test_an_unexpected_error_fails_one_execution_and_reveals_nothing(shard, acting, monkeypatch):
    (seq,) = await shard.append()

    async def broken(*_arguments):
        raise KeyError("secret")

    monkeypatch.setattr(type(shard.host.commands), "cancel", broken)
    result = await acting(JobAction.CANCEL, seq)
    assert (result.outcome, result.reason, "secret" in result.message) == (ItemOutcome.FAILED, "INTERNAL", False)
