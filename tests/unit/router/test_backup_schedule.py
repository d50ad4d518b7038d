"""The schedule of backups, by a clock of the test's: when one is due, what a failure does, and what operators see."""

import asyncio
import itertools
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from flowhook.process.metric_table import METRICS
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RouterSettings
from router.process.backup_schedule import BackupReport, BackupSchedule, environment_of

NIGHT = datetime(2026, 11, 30, 3, tzinfo=UTC).timestamp()
HOUR = 3600
DAY = 24 * HOUR


class Runs:
    """Runs a schedule until it has made so many attempts; notes when each was."""

    def __init__(self, now, reports, *, stored=0, look_error=""):
        self.now = now
        self.reports = reports
        self.attempts = []
        self.looks = 0
        self.found = BackupReport(stored, look_error)
        self.state = ProcessState(name="router-1", role="router")
        self.seen = []
        settings = RouterSettings(backup_target="/backups")
        self.schedule = BackupSchedule(
            settings, self.state, self.expose, run=self.perform, now=lambda: self.now, sleep=self.sleep
        )

    def expose(self, readings):
        [(name, self.read)] = readings.items()
        assert name in METRICS
        assert self.read() == []

    async def sleep(self, seconds):
        assert 0 < seconds <= 15
        self.now += seconds
        await asyncio.sleep(0)

    async def perform(self, _, action):
        if action == "look":
            self.looks += 1
            return self.found
        self.seen.append(dict(self.state.warnings))
        self.attempts.append(self.now)
        if len(self.attempts) > len(self.reports):
            raise asyncio.CancelledError
        error = self.reports[len(self.attempts) - 1]
        return BackupReport(0 if error else int(self.now), error)

    async def run(self):
        with pytest.raises(asyncio.CancelledError):
            await self.schedule.run()
        return [round((at - NIGHT) / HOUR, 3) for at in self.attempts]


async def test_without_a_target_nothing_is_made():
    state = ProcessState(name="router-1", role="router")
    await BackupSchedule(RouterSettings(), state, None).run()


async def test_the_first_backup_is_made_at_the_next_time_and_then_each_day():
    assert await Runs(NIGHT - 5 * HOUR, ["", ""]).run() == [0, 24, 48]


async def test_one_that_was_missed_is_made_at_once():
    assert await Runs(NIGHT + 5 * HOUR, [""], stored=int(NIGHT - DAY)).run() == [5, 24]


async def test_one_that_another_owner_has_made_is_not_made_again():
    runs = Runs(NIGHT + HOUR, [], stored=int(NIGHT))
    assert await runs.run() == [24]
    assert runs.read() == NIGHT


async def test_a_failure_is_tried_again_ever_more_seldom_and_is_a_warning_until_one_succeeds():
    runs = Runs(NIGHT - HOUR, ["no room"] * 6 + ["", ""], stored=int(NIGHT - DAY))
    attempts = await runs.run()
    minutes = [round((later - sooner) * 60) for sooner, later in itertools.pairwise(attempts[:7])]
    assert minutes == [5, 10, 20, 40, 60, 60]
    assert attempts[7:] == [24, 48]
    warnings = [seen.get("backups", "") for seen in runs.seen]
    assert warnings[0] == warnings[-1] == ""
    assert set(warnings[1:7]) == {"no backup is made: no room; the newest is of 2026-11-29T03:00:00Z"}
    assert runs.state.warnings == {}


async def test_a_target_that_cannot_be_read_is_a_warning_at_the_start():
    runs = Runs(NIGHT - HOUR, [], look_error="bucket: no such host")
    await runs.run()
    assert runs.read() == []
    assert runs.seen == [{"backups": "no backup is made: bucket: no such host; no earlier one is known"}]


async def test_a_clock_that_is_set_back_delays_nothing_for_longer_than_it_shows():
    runs = Runs(NIGHT - HOUR, [""])
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        runs.now += seconds if len(slept) != 3 else -HOUR
        await asyncio.sleep(0)

    runs.schedule._sleep = sleep
    assert await runs.run() == [0, 24]


@pytest.mark.parametrize("stored", [0, int(NIGHT + 365 * DAY)])
async def test_a_clock_that_was_a_year_ahead_holds_nothing_up(stored):
    runs = Runs(NIGHT - HOUR + (0 if stored else 365 * DAY), [""], stored=stored)
    if not stored:
        sleep = runs.schedule._sleep

        async def set_back(seconds):
            await sleep(seconds)
            if runs.attempts and runs.now > NIGHT + 365 * DAY:
                runs.now = NIGHT + HOUR

        runs.schedule._sleep = set_back
    assert await runs.run() == ([0, 24] if stored else [365 * 24, 24])


async def test_a_process_that_cannot_be_started_is_a_failure():
    runs = Runs(NIGHT - HOUR, ["", ""])
    perform = runs.perform

    async def fail_once(*arguments):
        report = await perform(*arguments)
        if len(runs.attempts) == 1:
            raise OSError(12, "no memory")
        return report

    runs.schedule._run = fail_once
    await runs.run()
    assert "no process can be started: Cannot allocate memory" in runs.seen[1]["backups"]


@pytest.mark.parametrize("target", ["s3://", "s3://user:key@bucket/x", "s3://bucket/x?y=1", "https://x.example/y"])
def test_targets_that_are_none_are_refused(target):
    with pytest.raises(ValidationError):
        RouterSettings(backup_target=target)


def test_a_schedule_that_is_none_is_refused():
    with pytest.raises(ValidationError, match="not a cron expression"):
        RouterSettings(backup_schedule="daily")


def test_the_process_gets_the_settings_of_this_one_and_no_file_stands_against_them(tmp_path):
    settings = RouterSettings(data_dir=tmp_path, storage="nats://n:4222", backup_target="s3://bucket/x")
    inherited = {
        "FLOWHOOK_STORAGE_FILE": "/x",
        "FLOWHOOK_SECRETS_KEY": "k",
        "AWS_REGION": "r",
        "FLOWHOOK_DATA_DIR": "/y",
    }
    found = environment_of(settings, inherited)
    assert found["FLOWHOOK_STORAGE"] == "nats://n:4222"
    assert found["FLOWHOOK_DATA_DIR"] == str(tmp_path)
    assert (found["FLOWHOOK_SECRETS_KEY"], found["AWS_REGION"]) == ("k", "r")
    assert "FLOWHOOK_STORAGE_FILE" not in found
    assert found["FLOWHOOK_BACKUP_TARGET"] == "s3://bucket/x"
