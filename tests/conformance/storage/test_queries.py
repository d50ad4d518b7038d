"""Finding and listing executions."""

import itertools

import pytest

from flowhook.model import Status
from flowhook.model.execution_filter import ExecutionFilter
from router.storage.model import Requeued, Started

UNENDED = frozenset({Status.PENDING, Status.RUNNING})


@pytest.fixture
async def executions(cluster, new_event):
    """Two flows' executions in every status; their records by ascending number."""
    statuses = [Status.PENDING, Status.RUNNING, Status.COMPLETED, Status.FAULTED, Status.CANCELLED]
    kinds = list(itertools.product(["shop", "bank"], statuses)) * 3
    seqs = await cluster.append(*(new_event(flow_id) for flow_id, _ in kinds))
    await cluster.state.write([Started(seq, 1) for seq in seqs])
    await cluster.state.write(
        [Requeued(seq, 1) for seq, (_, status) in zip(seqs, kinds, strict=True) if status == Status.PENDING]
    )
    for seq, (_, status) in zip(seqs, kinds, strict=True):
        if status.ended:
            await cluster.end(seq, status=status)
    records = await cluster.state.records(seqs)
    assert [records[seq].status for seq in seqs] == [status for _, status in kinds]
    return [records[seq] for seq in seqs]


STATUS_SETS = [
    frozenset(chosen)
    for size in range(4)
    for chosen in itertools.combinations(
        [Status.PENDING, Status.RUNNING, Status.COMPLETED, Status.FAULTED, Status.CANCELLED], size
    )
]


async def test_any_conditions_together_give_what_meets_them_newest_first(cluster, executions):
    for flow_id, statuses, before_seq in itertools.product(["", "shop", "unknown"], STATUS_SETS, [None, 14]):
        expected = [
            record
            for record in reversed(executions)
            if (not flow_id or record.flow_id == flow_id)
            and (not statuses or record.status in statuses)
            and (before_seq is None or record.seq < before_seq)
        ]
        wanted = ExecutionFilter(flow_id=flow_id, statuses=tuple(statuses))
        found = await cluster.state.list_executions(wanted, before_seq=before_seq)
        assert found == (expected, None), (flow_id, statuses, before_seq)


async def test_pages_together_give_the_whole_list_once(cluster, executions):
    found = []
    before_seq = None
    wanted = ExecutionFilter(flow_id="bank")
    for size in (4, 4, 4, 3):
        page, before_seq = await cluster.state.list_executions(wanted, before_seq=before_seq, limit=4)
        assert len(page) == size
        found += page
    assert before_seq is None
    assert found == [record for record in reversed(executions) if record.flow_id == "bank"]


async def test_an_unknown_execution_is_not_found(cluster, executions):
    assert await cluster.state.find("evt_unknown") is None
    assert await cluster.state.find(executions[0].id) == executions[0]
    assert await cluster.state.records([1, 999]) == {1: executions[0]}
    assert await cluster.state.records([]) == {}
    assert await cluster.state.content(999) is None


async def test_statuses_that_nothing_has_find_nothing(cluster, executions):
    assert await cluster.state.list_executions(ExecutionFilter(statuses=(Status.WAITING,))) == ([], None)
    wanted = ExecutionFilter(statuses=(Status.WAITING, *UNENDED))
    assert len((await cluster.state.list_executions(wanted)).records) == 12
