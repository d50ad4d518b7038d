"""One child process, with the control channel and the record that it shares with its parent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final, Self

import attrs

from flowhook.asyncio_tasks import wait_at_most
from flowhook.process.settings import RunnerSettings
from flowhook.process.ticks import until_tick
from flowhook.sandbox.forking import ForkedProcess
from flowhook.sandbox.spawning import SpawnedProcess, socket_pair
from runner.guard.evaluation_record import EvaluationRecord
from runner.guard.process_starter import ProcessStarter
from runner.guard.watchdog import GONE, KillDecision, SchedulingState, Usage, UsageSampler, Watchdog
from runner.ipc import ControlChannel

# intervals between looks at the record: while the child evaluates, and when it has been idle for a while
POLL_SECONDS: Final = 0.025
IDLE_POLL_SECONDS: Final = 0.1
IDLE_AFTER: Final = 40  # looks without a new evaluation after which the child counts as idle
# looks at an idle child for one sample, which takes a quarter of a millisecond of a cold processor
IDLE_SAMPLE: Final = 5
# interval between looks at a child that has no execution: it tells when it gets one
RESTING_POLL_SECONDS: Final = 2.0


@attrs.define(eq=False, repr=False)
class WorkerProcess:
    """A child that was started. It does nothing before it receives `ipc.Begin` or `ipc.RunDocument`."""

    process: SpawnedProcess | ForkedProcess
    control: ControlChannel
    record: EvaluationRecord
    working: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)  # set when the child says so
    _last: Usage = attrs.field(init=False, default=GONE)
    _seen_cpu_ns: int = attrs.field(init=False, default=-1)

    @classmethod
    async def spawn(cls, starter: ProcessStarter) -> Self:
        """Start a child; `OSError` if it can't be started."""
        record = EvaluationRecord()
        try:
            with socket_pair() as (ours, theirs):
                process = await starter.start(theirs.fileno(), record.descriptor)
        except BaseException:
            record.close()
            raise
        return cls(process, await ControlChannel.open(ours), record)

    async def watch(self, settings: RunnerSettings, *, shared: bool = False) -> KillDecision:
        """Watch the child until one of its evaluations exceeds a limit; returns the decision to kill it."""
        watchdog = Watchdog(
            expression_seconds=settings.expression_seconds, expression_bytes=settings.expression_bytes, shared=shared
        )
        sampler = UsageSampler(self.process.pid)
        sequence, quiet, unsampled, beat_ns = 0, 0, 0, 0
        while True:
            evaluation = self.record.read()
            if evaluation.beat_ns != beat_ns and self.record.is_resting:  # it has nothing to judge, and its loop runs
                beat_ns = evaluation.beat_ns
                await self._doze()
                continue
            quiet = quiet + 1 if evaluation.sequence == sequence and not evaluation.started_ns else 0
            sequence = evaluation.sequence
            unsampled = unsampled + 1 if quiet > IDLE_AFTER else IDLE_SAMPLE
            if unsampled >= IDLE_SAMPLE:
                unsampled = 0
                self._last = sampler.sample()
                decision = watchdog.judge(evaluation, self._last, time.monotonic_ns())
                if decision is not None:
                    now = self.record.read()
                    # the usage is the evaluation's if that ran during the whole sample
                    if (now.sequence, now.started_ns) == (evaluation.sequence, evaluation.started_ns):
                        return decision
            await asyncio.sleep(POLL_SECONDS if quiet < IDLE_AFTER else IDLE_POLL_SECONDS)

    async def _doze(self) -> None:
        """Wait for `RESTING_POLL_SECONDS`, or until the child has work.

        If both sides write their fields at the same time, neither may see the other's: then this notices late.
        """
        self.working.clear()
        if self.record.doze(True):
            await wait_at_most(until_tick(RESTING_POLL_SECONDS), self.working.wait())
        self.record.doze(False)

    def is_progressing(self) -> bool:
        """Whether the child has made progress since the last call, or will as soon as the machine lets it."""
        usage, seen = self._last, self._seen_cpu_ns
        self._seen_cpu_ns = usage.cpu_ns
        return self.process.returncode is None and (usage.state is not SchedulingState.STOPPED or usage.cpu_ns > seen)

    async def kill(self) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()

    async def close(self) -> None:
        await self.kill()
        self.control.close()
        self.record.close()
