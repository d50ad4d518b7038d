"""Deletion by jobs: no other execution becomes unresolved by it, so that no job replays what was dealt with."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from flowhook.errors import NotFoundError
from flowhook.execution_filter import ExecutionFilter
from flowhook.jobs import JobAction, JobSpec
from flowhook.model import Status
from router.jobs.actions import JobActions
from router.storage.jobs import ClaimedItem
from router.storage.model import Ended, NewEvent
from router.storage.sqlite import open_sqlite

SPEC = JobSpec(JobAction.DELETE, ExecutionFilter(flow_id="f"))
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


@settings(max_examples=25, deadline=None)
@given(EXECUTIONS, st.lists(st.integers(1, 6), min_size=1, unique=True))
def test_what_is_deleted_changes_nothing_about_what_is_unresolved(executions, deleted):
    async def run():
        with tempfile.TemporaryDirectory() as directory:
            storage = await open_sqlite(Path(directory) / "flowhook.db", durable=False)
            state = await storage.own(0)
            for seq, (earlier, status) in enumerate(executions, 1):
                replay_of = f"evt_{earlier}" if 0 < earlier < seq else ""
                await storage.log(0).append([NewEvent(f"evt_{seq}", "f", 1, 1000, b"", replay_of=replay_of)])
                await state.write([Ended(seq, status, 2000 + seq, 1)])
            before = await ids(state, unresolved=True)
            actions = JobActions(commands=None, records=Records(state), state=state, replay=None)
            for seq in deleted:
                await actions.perform("job_1", SPEC, ClaimedItem(seq, seq, f"evt_{seq}", 1), repeated=False)
            assert await ids(state, unresolved=True) == before & await ids(state, flow_id="f")
            await storage.close()

    asyncio.run(run())
