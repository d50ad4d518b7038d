"""Jobs on executions and replays of them: no event is replayed twice, or again after it was dealt with."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.examples import examples

from flowhook.errors import NotFoundError
from flowhook.model import Status
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import JobAction, JobSpec
from router.jobs.job_runner import JobActions
from router.jobs.removal import ExecutionRemoval
from router.storage.jobs import ClaimedItem
from router.storage.model import Ended, NewEvent
from router.storage.storage import open_storage

ENDS = st.sampled_from([Status.FAULTED, Status.CANCELLED, Status.COMPLETED])
EXECUTIONS = st.lists(st.tuples(st.integers(0, 5), ENDS), min_size=2, max_size=6)
"""Which earlier one each of them replays, if it exists, and how each ended."""


class Records:
    """Executions that have all ended."""

    def __init__(self, state):
        self._state = state

    async def find(self, execution_id):
        found = await self._state.find(execution_id)
        if found is None:
            raise NotFoundError("deleted", reason="EXECUTION_NOT_FOUND")
        return found


async def ids(state, **conditions):
    return {each.id for each in (await state.list_executions(ExecutionFilter(**conditions))).records}


@asynccontextmanager
async def stored(executions):
    """Open storage with these executions."""
    with tempfile.TemporaryDirectory() as directory:
        storage = await open_storage(Path(directory) / "flowhook.db", durable=False)
        state = await storage.own()
        for seq, (earlier, status) in enumerate(executions, 1):
            replay_of = f"evt_{earlier}" if 0 < earlier < seq else ""
            await storage.log.append([NewEvent(f"evt_{seq}", "f", 1, 1000, b"", replay_of=replay_of)])
            await state.write([Ended(seq, status, 2000 + seq, 1)])
        yield storage, state
        await storage.close()


async def perform(state, action, seq, start=None):
    runtime = SimpleNamespace(executions=Records(state), parts=SimpleNamespace(state=state))
    actions = JobActions(runtime, SimpleNamespace(start=start), ExecutionRemoval(runtime, storage=None))
    item = ClaimedItem(seq, seq, f"evt_{seq}", 1)
    return await actions.perform("job_1", JobSpec(action, ExecutionFilter(flow_id="f")), item, repeated=False)


@settings(max_examples=examples(25), deadline=None)
@given(EXECUTIONS, st.lists(st.integers(1, 6), min_size=1, unique=True))
def test_what_is_deleted_changes_nothing_about_what_is_unresolved(executions, deleted):
    async def run():
        async with stored(executions) as (_, state):
            before = await ids(state, unresolved=True)
            for seq in deleted:
                await perform(state, JobAction.DELETE, seq)
            assert await ids(state, unresolved=True) == before & await ids(state, flow_id="f")

    asyncio.run(run())


@settings(max_examples=examples(25), deadline=None)
@given(EXECUTIONS)
@example([(0, Status.FAULTED), (1, Status.FAULTED), (1, Status.FAULTED)])
def test_a_job_replays_each_event_at_most_once_even_if_its_replays_fail_at_once(executions):
    async def run():
        async with stored(executions) as (storage, state):
            unresolved = await ids(state, unresolved=True)
            replayed = []

            async def start(execution_id, _options, *, unless_replayed, event_id):
                assert unless_replayed
                (new,) = await storage.log.append([NewEvent(event_id, "f", 1, 1000, b"", replay_of=execution_id)])
                await state.write([Ended(new.seq, Status.FAULTED, 3000, 1)])
                replayed.append(execution_id)
                return SimpleNamespace(id=event_id)

            for seq in range(1, len(executions) + 1):
                if executions[seq - 1][1] is Status.FAULTED:
                    await perform(state, JobAction.REPLAY, seq, start)
            assert sorted(replayed) == sorted(unresolved)

    asyncio.run(run())
