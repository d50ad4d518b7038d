"""Makes backups by a schedule, each in a process of its own, and says when they fail.

Nothing about them is stored here: names of backups have the time at which they were made. So the next owner of a
replicated log, or a router that was away when one was due, finds out from the target that one is due now.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import attrs
import orjson

from flowhook.cron import next_cron
from flowhook.model.times import to_datetime
from flowhook.process import logs
from flowhook.process.confidential_settings import ENV_PREFIX, SUFFIX
from flowhook.process.metrics import Reading
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RouterSettings
from flowhook.retrying import BackoffPolicy
from flowhook.sandbox.spawning import python_command, socket_pair, spawn

WARNING: Final = "backups"  # kind of the warning
RETRY: Final = BackoffPolicy(300.0, 3600.0, jitter=0.0)  # between a failed attempt and the next one
LOOK_SECONDS: Final = 15.0  # between two looks at the clock, which may jump
READ_BYTES: Final = 64 * 1024  # longest report
_PASSED_ON: Final = (
    *("data_dir", "storage", "nats_creds_file", "nats_ca_file", "log_level", "log_format"),
    *("backup_target", "backup_keep_last", "backup_keep_daily", "backup_keep_weekly"),
)

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What the program says when it ends."""

    newest: int = 0  # when the newest backup of the target was made (Unix time, s); 0: there is none
    error: str = ""  # why none was made; or empty


def environment_of(settings: RouterSettings, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that is to have the same settings; secrets are in that of this process."""
    passed = dict(environment)
    for name in _PASSED_ON:
        variable = ENV_PREFIX + name.upper()
        passed.pop(variable + SUFFIX, None)
        value = getattr(settings, name)
        if value not in (None, ""):
            passed[variable] = str(value)
    return passed


async def run_program(settings: RouterSettings, action: str) -> BackupReport:
    """Run `router.process.backups`, which makes a backup (`make`), or looks for the newest one (`look`).

    It is killed if this is cancelled; the target then has what it had.
    """
    with socket_pair() as (ours, theirs):
        command = python_command("router.process.backups", os.getpid(), theirs.fileno(), action)
        environment = environment_of(settings, os.environ)
        process = spawn(command, descriptors=[theirs.fileno()], environment=environment, new_session=True)
    with ours:
        try:
            code = await process.wait()
        finally:
            process.kill()
            await process.wait()
        ours.setblocking(False)
        with contextlib.suppress(ValueError, TypeError, BlockingIOError):
            return BackupReport(**orjson.loads(ours.recv(READ_BYTES)))
        return BackupReport(error=f"the process ended with code {code}; see the log of this router")


@attrs.define(eq=False, repr=False)
class BackupSchedule:
    """Makes the backups of a router while it owns the data; times are Unix times in s."""

    _settings: RouterSettings
    _process_state: ProcessState
    _expose: Callable[[Mapping[str, Callable[[], Reading]]], None]
    """Adds metrics."""
    _run: Callable[[RouterSettings, str], Awaitable[BackupReport]] = attrs.field(default=run_program, kw_only=True)
    _now: Callable[[], float] = attrs.field(default=time.time, kw_only=True)
    _sleep: Callable[[float], Awaitable[None]] = attrs.field(default=asyncio.sleep, kw_only=True)
    _newest: float | None = attrs.field(init=False, default=None)
    """When the newest backup was made; 0: there is none; None: it is not known yet."""

    async def run(self) -> None:
        """Make backups until cancelled; without a target, return at once."""
        if not self._settings.backup_target:
            return
        self._expose({"flowhook_backup_last_success_timestamp_seconds": self._read})
        try:
            await self._perform("look")
            # without any, the first one is made when one is due next
            due, pauses = self._next(min(self._newest or self._now(), self._now())), RETRY.pauses()
            while True:
                await self._wait_until(due)
                if await self._perform("make"):
                    due, pauses = self._next(self._now()), RETRY.pauses()
                else:
                    due = min(self._now() + next(pauses), self._next(self._now()))
        finally:
            self._process_state.warn(WARNING, "")

    async def _perform(self, action: str) -> bool:
        """Run the program, show what it reports, and return whether it succeeded."""
        try:
            report = await self._run(self._settings, action)
        except OSError as error:
            report = BackupReport(error=f"no process can be started: {os.strerror(error.errno or 0)}")
        if report.newest or not report.error:
            self._newest = report.newest
        self._warn(report.error)
        return not report.error

    def _read(self) -> Reading:
        return [] if self._newest is None else self._newest

    def _next(self, after: float) -> float:
        return next_cron(self._settings.backup_schedule, int(after * 1000)) / 1000

    async def _wait_until(self, due: float) -> None:
        # `due` may be of a clock that was ahead
        while (left := (due := min(due, self._next(self._now()))) - self._now()) > 0:
            await self._sleep(min(left, LOOK_SECONDS))

    def _warn(self, error: str) -> None:
        if not error:
            self._process_state.warn(WARNING, "")
            return
        newest = to_datetime(int(self._newest * 1000)).strftime("%Y-%m-%dT%H:%M:%SZ") if self._newest else ""
        since = f"the newest is of {newest}" if newest else "no earlier one is known"
        self._process_state.warn(WARNING, f"no backup is made: {error}; {since}")
        log.error("backup failed", cause=error, newest=newest or None)
