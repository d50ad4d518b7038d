"""The worker of a runner in this process, attached to a real router: its guard is the test."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from unittest import mock

from support.patience import PATIENCE

from flowhook.process import logs
from flowhook.process.settings import RunnerSettings
from runner import ipc
from runner.guard.evaluation_record import EvaluationRecord
from runner.metrics import RunnerMetrics
from runner.worker import app


@asynccontextmanager
async def running_worker(router, *, traces=None, **settings):
    """Execute flows of a `RunningRouter` while the block runs, and export spans as `traces` says."""
    ours, theirs = socket.socketpair()
    control, given = await ipc.ControlChannel.open(ours), await ipc.ControlChannel.open(theirs)
    record = EvaluationRecord()
    settings = RunnerSettings(router=router.target, data_dir=router.settings.data_dir, **settings)
    # the logs are those of all tests, and so are the metrics, which a process registers once
    with mock.patch.object(logs, "configure"), mock.patch.object(RunnerMetrics, "expose"):
        working = asyncio.create_task(app.work(given, record))
        try:
            token = router.token("runner")
            control.send(ipc.Begin(settings, token, "runner-1", losses_explained=True, kills=0, traces=traces))
            async with asyncio.timeout(PATIENCE):
                while not isinstance(await control.receive(), ipc.RouterAttached):
                    pass
            yield
        finally:
            control.send(ipc.Shutdown(seconds=PATIENCE))
            await working
            control.close()
            given.close()
            record.close()
