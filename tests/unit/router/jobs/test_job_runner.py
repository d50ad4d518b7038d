"""The work on a job: whatever is killed, paused or resumed at whatever moment, each execution is taken exactly once."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from flowhook.errors import ExhaustedError, UnavailableError
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import ItemOutcome, JobAction, JobSpec, JobState
from router.jobs import job_runner
from router.jobs.job_runner import CATCH_UP_SECONDS, ItemResult, JobRun, JobRunner, Pace
from router.storage.jobs import NewJob
from router.storage.model import ExecutionPage, NewEvent
from router.storage.storage import open_storage

SPEC = JobSpec(JobAction.REPLAY, ExecutionFilter(flow_id="f"), rate=1000)
EXECUTIONS = 7


class Killed(BaseException):
    """The router was killed with -9."""


class Crashes:
    """Kills the router at one of its steps; each call of storage or of the action is two: before and after it."""

    def __init__(self, at):
        self._left = at

    def step(self):
        self._left -= 1
        if self._left == 0:
            raise Killed

    def around(self, target):
        return Crashing(target, self)


class Crashing:
    """Calls of an object, each of which may be the last."""

    def __init__(self, target, crashes):
        self._target = target
        self._crashes = crashes

    def __getattr__(self, name):
        async def call(*arguments, **options):
            self._crashes.step()
            result = await getattr(self._target, name)(*arguments, **options)
            self._crashes.step()
            return result

        return call


class World:
    """Executions that are replayed: one matches until it was. A replay is idempotent for its claim, like a real one."""

    def __init__(self, count):
        self.unreplayed = dict.fromkeys(range(1, count + 1))
        self.replays = {}
        self.performed = []
        self.refusals = []

    async def next(self, _wanted, *, after_seq, last_seq, limit):
        found = [seq for seq in self.unreplayed if after_seq < seq <= last_seq]
        records = [_record(seq) for seq in found[:limit]]
        return ExecutionPage(records, found[limit - 1] if len(found) > limit else None)

    async def perform(self, job_id, _spec, item, *, repeated):
        if self.refusals:
            raise self.refusals.pop(0)
        claim = (job_id, item.seq, item.time_ms)
        if not (repeated and claim in self.replays):
            self.performed.append(item.seq)
        self.replays[claim] = f"evt_new_{item.seq}"
        self.unreplayed.pop(item.seq, None)
        return ItemResult(ItemOutcome.DONE, new_execution_id=self.replays[claim])


def _record(seq):
    class Record:
        id = f"evt_{seq}"

    Record.seq = seq
    return Record


class Storage:
    """Real storage with some executions and a job."""

    def __init__(self, directory):
        self._path = Path(directory) / "flowhook.db"
        self._now = itertools.count(1_000)

    def now_ms(self):
        return next(self._now)

    async def __aenter__(self):
        self.storage = await open_storage(self._path, durable=False)
        await self.storage.own()
        self.jobs = self.storage.jobs
        return self

    async def __aexit__(self, *_error):
        await self.storage.close()

    async def create(self, count=EXECUTIONS):
        events = [NewEvent(f"evt_{seq}", "f", 1, 1_000, b"") for seq in range(1, count + 1)]
        await self.storage.log.append(events)
        return await self.jobs.create(NewJob("job_1", b"", 1_000))

    def run(self, job, world, crashes=None):
        crashes = crashes or Crashes(0)
        runner = JobRunner(
            store=crashes.around(self.jobs),
            matching=crashes.around(world),
            actions=crashes.around(world),
            clock=lambda: 0.0,
            now_ms=self.now_ms,
        )
        run = JobRun(job, SPEC, runner)
        run._batch = 3
        run._pace = NoPace()
        return run


class NoPace:
    def delay(self, _now):
        return 0.0


async def _check(storage, world):
    job = await storage.jobs.get("job_1")
    items = await storage.jobs.items(job.number)
    assert (job.state, job.matched, job.done) == (JobState.COMPLETED, EXECUTIONS, EXECUTIONS)
    assert [item.execution_id for item in items] == [f"evt_{seq}" for seq in range(1, EXECUTIONS + 1)]
    assert [item.number for item in items] == list(range(1, EXECUTIONS + 1))
    assert world.performed == list(range(1, EXECUTIONS + 1))


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.integers(1, 45), max_size=5))
def test_a_job_that_is_killed_at_any_moment_takes_each_execution_exactly_once(kills):
    async def run():
        with tempfile.TemporaryDirectory() as directory:
            world = World(EXECUTIONS)
            async with Storage(directory) as storage:
                job = await storage.create()
                for at in kills:
                    try:
                        await storage.run(job, world, Crashes(at)).run()
                    except Killed:
                        continue
                await storage.run(await storage.jobs.get(job.id), world).run()
                await _check(storage, world)

    asyncio.run(run())


class Pauses(World):
    """Executions whose job is paused while one of them is worked on."""

    def __init__(self, count, at):
        super().__init__(count)
        self.at = at
        self.run = self.jobs = None

    async def perform(self, job_id, spec, item, *, repeated):
        if len(self.performed) in self.at:
            self.at = self.at - {len(self.performed)}
            await self.jobs.change_state(job_id, JobState.PAUSED, now_ms=1)
            self.run.stop()
        return await super().perform(job_id, spec, item, repeated=repeated)


@settings(max_examples=examples(20), deadline=None)
@given(st.frozensets(st.integers(0, EXECUTIONS - 1)), st.lists(st.integers(1, 45), max_size=2))
def test_a_job_that_is_paused_and_killed_takes_each_execution_exactly_once(pauses, kills):
    async def run():
        with tempfile.TemporaryDirectory() as directory:
            world = Pauses(EXECUTIONS, pauses)
            left = iter(kills)
            async with Storage(directory) as storage:
                job = await storage.create()
                world.jobs = storage.jobs
                while not job.state.ended:
                    world.run = storage.run(job, world, Crashes(next(left, 0)))
                    try:
                        await world.run.run()
                    except Killed:
                        pass
                    else:
                        job = await storage.jobs.get(job.id)
                        # claims of a run that was killed stay until they are settled
                        assert job.matched == job.done + len(await storage.jobs.claimed(job.number))
                    job = await storage.jobs.get(job.id)
                    if job.state is JobState.PAUSED:
                        job = await storage.jobs.change_state(job.id, JobState.PENDING, now_ms=1)
                await _check(storage, world)

    asyncio.run(run())


async def test_what_was_performed_by_an_attempt_that_failed_is_not_repeated_after_a_pause(tmp_path):
    class Failing(Pauses):
        async def perform(self, *arguments, **options):
            paused = len(self.performed) in self.at
            result = await super().perform(*arguments, **options)
            if paused:
                raise UnavailableError("performed, and then storage failed")
            return result

    async with Storage(tmp_path) as storage:
        job, world = await storage.create(), Failing(EXECUTIONS, {1})
        world.jobs = storage.jobs
        world.run = storage.run(job, world)
        await world.run.run()
        assert world.performed == [1, 2]
        await storage.jobs.change_state(job.id, JobState.PENDING, now_ms=1)
        await storage.run(job, world).run()
        await _check(storage, world)


async def test_what_is_not_possible_at_this_moment_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(job_runner, "RETRY_SECONDS", 0.0)
    async with Storage(tmp_path) as storage:
        job, world = await storage.create(), World(EXECUTIONS)
        world.refusals = [ExhaustedError("the backlog is full"), UnavailableError("storage is away")]
        run = storage.run(job, world)
        await run.run()
        assert run.delay_reason == ""
        await _check(storage, world)


async def test_a_job_that_is_aborted_while_it_is_delayed_ends_at_once_and_withdraws_its_claims(tmp_path):
    async with Storage(tmp_path) as storage:
        job, world = await storage.create(), World(EXECUTIONS)
        world.refusals = [ExhaustedError("the backlog is full")]
        run = storage.run(job, world)
        running = asyncio.create_task(run.run())
        while not run.delay_reason:
            await asyncio.sleep(0)
        await storage.jobs.change_state(job.id, JobState.ABORTED, now_ms=5)
        run.stop()
        await running
        aborted = await storage.jobs.get(job.id)
        assert (aborted.state, aborted.matched, world.performed) == (JobState.ABORTED, 0, [])


async def test_what_a_job_left_behind_that_was_aborted_after_a_crash_is_settled(tmp_path):
    async with Storage(tmp_path) as storage:
        job, world = await storage.create(), World(EXECUTIONS)
        with pytest.raises(Killed):
            await storage.run(job, world, Crashes(12)).run()
        assert len(await storage.jobs.claimed(job.number)) == 3
        await storage.jobs.change_state(job.id, JobState.ABORTED, now_ms=5)
        runner = JobRunner(
            store=storage.jobs,
            matching=world,
            actions=world,
            load_spec=lambda _spec, _data: SPEC,
            clock=lambda: 0.0,
            now_ms=storage.now_ms,
        )
        running = asyncio.create_task(runner.run())
        while await storage.jobs.claimed(job.number):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        items = await storage.jobs.items(job.number)
        assert {(item.outcome, item.reason) for item in items} == {(ItemOutcome.SKIPPED, "JOB_ABORTED")}


async def test_a_job_that_can_not_be_read_or_fails_is_paused_and_the_others_run(tmp_path):
    async with Storage(tmp_path) as storage:
        world = World(EXECUTIONS)
        unreadable = await storage.jobs.create(NewJob("job_0", b"unreadable", 1_000))
        job = await storage.create()
        failing = await storage.jobs.create(NewJob("job_2", b"failing", 1_000))

        def load(stored, _data):
            if stored == b"unreadable":
                raise KeyError(stored)
            return SPEC if stored != b"failing" else None

        runner = JobRunner(
            store=storage.jobs,
            matching=world,
            actions=world,
            load_spec=load,
            clock=lambda: 0.0,
            now_ms=storage.now_ms,
        )
        running = asyncio.create_task(runner.run())
        states = {}
        while len(states) < 3:
            await asyncio.sleep(0)
            jobs = [await storage.jobs.get(each.id) for each in (unreadable, job, failing)]
            states = {each.id: each.state for each in jobs if each.state not in (JobState.PENDING, JobState.RUNNING)}
        running.cancel()
        await asyncio.wait([running])
        assert states == {"job_0": JobState.PAUSED, "job_1": JobState.COMPLETED, "job_2": JobState.PAUSED}


def test_actions_are_spread_evenly():
    pace = Pace(4)
    now = 100.0
    delays = []
    for _ in range(4):
        delays.append(pace.delay(now))
        now += delays[-1]
    assert delays == [0.0, 0.25, 0.25, 0.25]


def test_a_short_delay_is_caught_up_on_and_a_long_one_is_not():
    pace = Pace(8)
    pace.delay(0.0)
    assert [pace.delay(0.375) for _ in range(3)] == [0.0, 0.0, 0.0]
    pace.delay(100.0)
    immediate = 0
    while pace.delay(100.0) == 0:
        immediate += 1
    assert immediate <= CATCH_UP_SECONDS * 8 + 1
