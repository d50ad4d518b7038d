"""A router that is killed with -9 again and again under traffic loses nothing: no event, no journal entry, no end.

The router is a process of its own; senders and runners live here, so that they know what they were told. Runners are
the real session and attachment, with flows that do nothing but journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from pathlib import Path

import pytest
from support.patience import PATIENCE
from support.ports import free_port
from support.routers import flow

from flowhook.attach import messages
from flowhook.client import AsyncClient, channel
from flowhook.errors import FlowhookError, UnavailableError
from flowhook.model import JournalEntry, Status
from flowhook.wire import convert
from runner import session
from runner.worker.attach_client import RouterConnection

STEPS = 3
SENDERS = 4


class RouterProcess:
    """A router on one port and one data directory, however often it is killed."""

    def __init__(self, data_dir):
        port = free_port()
        self.target = f"127.0.0.1:{port}"
        self.data_dir = data_dir
        self._environment = os.environ | {"FLOWHOOK_DATA_DIR": str(data_dir), "FLOWHOOK_GRPC_PORT": str(port)}
        self._log = Path(data_dir, "router.log").open("ab")  # noqa: SIM115 - as long as the test
        self.process = None

    def close(self):
        self._log.close()

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "cli", "router", env=self._environment, stdout=self._log, stderr=self._log
        )

    async def kill(self):
        assert self.process.returncode is None, Path(self.data_dir, "router.log").read_text()[-2000:]
        self.process.kill()
        await self.process.wait()

    def token(self, role):
        return Path(self.data_dir, f"{role}.token").read_text().strip()


class EffectLedger:
    """What happened: which effects were performed, and which are known to be journaled."""

    def __init__(self):
        self.performed = 0
        self.journaled = set()
        self.faults = []

    def begin(self, execution, journal):
        keys = [entry.key for entry in journal]
        if keys != [f"/do/{step}/call#0" for step in range(len(keys))]:
            self.faults.append(f"{execution} got the journal {keys}")
        forgotten = {step for step in range(STEPS) if (execution, step) in self.journaled} - set(range(len(keys)))
        if forgotten:
            self.faults.append(f"{execution}: journal entries {forgotten} are forgotten")

    def perform(self, execution, step):
        self.performed += 1
        if (execution, step) in self.journaled:
            self.faults.append(f"{execution}: step {step} is journaled and performed again")


class WorkingRunner:
    """Works on what it is assigned: each step is performed and journaled; the next begins once that is durable."""

    def __init__(self, world, link, announce):
        self._world = world
        self._link = link
        self._announce = announce
        self._tasks = {}
        self._durable = {}

    def start(self, assignment):
        execution = convert.event_from_bytes(assignment.event).id
        self._world.begin(execution, assignment.journal)
        self._durable[assignment.lease] = (len(assignment.journal) - 1, asyncio.Event())
        self._tasks[assignment.lease] = asyncio.create_task(self._run(assignment, execution))

    def proceed(self, lease, index):
        if lease in self._durable:
            durable, news = self._durable[lease]
            self._durable[lease] = (max(durable, index), news)
            news.set()

    def leases_confirmed(self):
        """It does not look whether leases are certain."""

    def abandon(self, lease):
        self._durable.pop(lease, None)
        if (task := self._tasks.pop(lease, None)) is not None:
            task.cancel()

    def abandon_all(self):
        for lease in list(self._tasks):
            self.abandon(lease)

    async def _run(self, assignment, execution):
        lease = assignment.lease
        for step in range(len(assignment.journal), STEPS):
            self._world.perform(execution, step)
            await asyncio.sleep(random.uniform(0, 0.01))
            entry = JournalEntry(f"/do/{step}/call#0", b"%d" % step)
            self._link.checkpoint(messages.Checkpoint(lease, step, entry))
            self._announce()
            while self._durable[lease][0] < step:
                self._durable[lease][1].clear()
                await self._durable[lease][1].wait()
            self._world.journaled.add((execution, step))
        self._link.finish(lease, messages.Completed(b"{}"))
        self._announce()


async def run_runner(router, world, runner_id):
    """Work as a runner until cancelled; then what is in hand is lost as if it had been killed."""
    link = session.Session(runner_id=runner_id, components=["http"], build="", capacity=64, losses_explained=False)
    connection = channel.connect(router.target, router.token("runner"))
    attachment = RouterConnection(connection, link, time.monotonic)
    executions = WorkingRunner(world, link, attachment.announce)
    try:
        await attachment.run(executions)
    finally:
        executions.abandon_all()
        await connection.close(None)


class EventSenders:
    """Send events one after another and remember which were acknowledged."""

    def __init__(self, client):
        self._client = client
        self.acknowledged = set()
        self._news = asyncio.Event()

    async def run(self):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(SENDERS):
                tasks.create_task(self._send())

    async def _send(self):
        while True:
            try:
                self.acknowledged.add(await self._client.ingest("hello", {}))
                self._news.set()
            except FlowhookError:
                await asyncio.sleep(0.05)  # whether it was stored nobody knows: it does not count

    async def progress(self, count):
        target = len(self.acknowledged) + count
        async with asyncio.timeout(PATIENCE):
            while len(self.acknowledged) < target:
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def going_on(work):
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def all_ended(client, ids):
    """Wait until all executions have ended, and return them by ID."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                executions = {execution.id: execution async for execution in client.executions.list()}
            except UnavailableError:  # it was killed a moment ago, and a busy machine takes its time to start it
                continue
            assert not ids - executions.keys(), f"lost: {ids - executions.keys()}"
            if all(execution.status.ended for execution in executions.values()):
                return executions
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("kills", [2, pytest.param(6, marks=pytest.mark.release)])
async def test_a_router_that_is_killed_again_and_again_forgets_nothing(tmp_path, kills):
    router, world = RouterProcess(tmp_path), EffectLedger()
    await router.start()
    try:
        async with asyncio.timeout(PATIENCE):
            while not Path(tmp_path, "runner.token").exists():
                await asyncio.sleep(0.02)
        async with AsyncClient(router.target, token=router.token("admin")) as client:
            while True:
                with contextlib.suppress(FlowhookError):
                    await client.flows.apply([flow("hello")])
                    break
            senders = EventSenders(client)
            async with going_on(run_runner(router, world, "steady")):
                async with going_on(senders.run()):
                    for _ in range(kills):
                        # another runner comes, and dies somewhere in the middle as well
                        async with going_on(run_runner(router, world, "fickle")):
                            await senders.progress(random.randint(10, 150))
                        await senders.progress(random.randint(1, 50))
                        await router.kill()
                        await router.start()
                executions = await all_ended(client, senders.acknowledged)
            assert {executions[id_].status for id_ in senders.acknowledged} == {Status.COMPLETED}
            for id_ in random.sample(sorted(senders.acknowledged), 50):
                detail = await client.executions.get(id_)
                assert [entry.output for entry in detail.journal] == [b"%d" % step for step in range(STEPS)]
        assert world.faults == []
        assert world.performed >= len(senders.acknowledged) * STEPS > 0
    finally:
        await router.kill()
        router.close()
