"""What tasks came to, as it is shown."""

from __future__ import annotations

import threading

from support.routers import flow
from support.runners import attached

from router.executions import reading


async def test_they_are_put_together_off_the_event_loop(router, client, monkeypatch):
    threads = []
    history_of = reading.build_task_history

    def noting(*arguments, **more):
        threads.append(threading.get_ident())
        return history_of(*arguments, **more)

    monkeypatch.setattr(reading, "build_task_history", noting)
    await client.flows.apply([flow("hello")])
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.fault(assignment, "/do/0/a", history=b'[[1,"/do/0/a",5,6,1,"!503 away"]]')
    shown = await client.executions.get(execution_id)
    assert [(run.task, run.detail) for run in shown.history] == [("/do/0/a", "503 away")]
    assert threads
    assert threading.get_ident() not in threads
