"""Evaluates expressions in a sandbox: a thread sends requests to it while the event loop supervises it."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Final, Self, TypeVar

import attrs
import orjson
from typing_extensions import override

from flowhook import limits
from flowhook.errors import InternalError, InvalidError
from flowhook.model import Event, WorkflowError
from flowhook.process.settings import RunnerSettings
from flowhook.retrying import RETRY_SECONDS
from flowhook.sandbox import frames, worker
from flowhook.sandbox.pool import ProcessPool
from flowhook.sandbox.spawning import SpawnedProcess
from flowhook.sharing.table import OffloadLimits
from flowhook.wire import convert
from runner.guard.evaluation_record import Activity, RecordSnapshot
from runner.guard.watchdog import SUBJECTS, KillDecision, UsageSampler, Watchdog, time_limit_message
from runner.interpreter import json_codec
from runner.interpreter.errors import Kind, error
from runner.quarantine import INPUT, evaluation

T = TypeVar("T")

GRACE_SECONDS: Final = 1.0  # CPU time beyond the limit of one evaluation after which the kernel kills the process
POLL_SECONDS: Final = 0.025  # interval between samples of an evaluating process
MAX_EXECUTIONS: Final = 100_000  # more executions than a runner can have


class EvaluationInterrupted(Exception):  # noqa: N818 - names what happened, which is not this process's error
    """The evaluating process was killed by something else; it is unknown whether because of the evaluation."""


class EvaluationKilled(Exception):  # noqa: N818 - names what happened, which is not this process's error
    """The evaluating process was killed for an evaluation, or died of it; the execution faults with `error`."""

    def __init__(self, error: WorkflowError) -> None:
        super().__init__(error.detail)
        self.error = error


class _ProcessGone(Exception):  # noqa: N818 - as above; the thread notices it before the cause is known
    """The process stopped answering."""


@attrs.define(eq=False, repr=False)
class IsolatedEvaluator:
    """One evaluating process. The function that `run` takes calls `first` and `violation` of it (`RemoteEvaluator`)."""

    process: SpawnedProcess  # the process
    _link: socket.socket
    _settings: RunnerSettings
    _poll_seconds: float
    _usage: UsageSampler = attrs.field(init=False)
    _snapshot: RecordSnapshot = attrs.field(init=False, factory=lambda: RecordSnapshot(0, 0, 0, b"", ""))
    _slowest_ns: int = attrs.field(init=False, default=0)
    _is_killed: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._usage = UsageSampler(self.process.pid)

    @classmethod
    async def start(cls, settings: RunnerSettings, *, poll_seconds: float = POLL_SECONDS) -> Self:
        """Start a process, whose usage is looked at every `poll_seconds`; `OSError` if it can't be started."""
        process, ours = worker.start_process(_limits(settings), imports=evaluation.__name__)
        evaluator = cls(process, ours, settings, poll_seconds)
        try:
            await asyncio.to_thread(evaluator._wait_until_ready)
        except BaseException:
            await evaluator.close()
            raise
        return evaluator

    def _wait_until_ready(self) -> None:
        """Wait until the process is ready, so that its imports do not count as usage of an evaluation."""
        self._link.settimeout(worker.START_SECONDS)
        try:
            kind, _ = frames.receive(self._link)
        except EOFError:
            kind = b""
        self._link.settimeout(None)
        if kind != frames.READY:
            raise OSError(errno.ECONNRESET, "the quarantine process did not start")

    @property
    def is_alive(self) -> bool:
        return not self._is_killed and self.process.returncode is None

    def reset_slowest(self) -> int:
        """Return the CPU time (ns) of the slowest evaluation since the last call."""
        slowest, self._slowest_ns = self._slowest_ns, 0
        return slowest

    async def run(self, work: Callable[[], T], threads: Executor) -> T:
        """Call `work` in a thread, which may evaluate in this process, and return its result.

        A cancellation kills the process, and is raised once the thread has ended.

        Raises:
            EvaluationKilled: the process was killed because of an evaluation, or died of it.
            EvaluationInterrupted: something else killed it, for example the OOM killer.
            Exception: what `work` raises.
        """
        working: asyncio.Future[T] = asyncio.get_running_loop().run_in_executor(threads, work)
        watching: asyncio.Future[KillDecision] = asyncio.create_task(self._watch(), name="watch evaluator")
        waited: set[asyncio.Future[Any]] = {working, watching}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                self._kill()
            return await working
        except _ProcessGone:
            decision = watching.result() if watching.done() else None
            code = await self.process.wait()
            if decision is None and code == -signal.SIGKILL:
                raise EvaluationInterrupted from None
            raise EvaluationKilled(self._explain(decision, code)) from None
        finally:
            if not working.done():
                self._kill()
                await asyncio.wait({working})
                working.exception()
            watching.cancel()

    def _explain(self, decision: KillDecision | None, code: int) -> WorkflowError:
        if decision is not None and decision.error is not None:
            return decision.error
        activity = self._snapshot.activity
        reason = f"{SUBJECTS[activity]} ended its process ({_exit_name(code)})"
        # limits that the process sets itself (RLIMIT, ITIMER_PROF): jq aborts when an allocation fails
        if code == -signal.SIGPROF:
            reason = time_limit_message(activity, self._settings.expression_seconds)
        elif code == -signal.SIGABRT:
            reason += f"; it may have taken more than {self._settings.expression_bytes // limits.MIB} MiB of memory"
        return error(Kind.EXPRESSION, reason, instance=self._snapshot.instance)

    async def _watch(self) -> KillDecision:
        watchdog = Watchdog(
            expression_seconds=self._settings.expression_seconds, expression_bytes=self._settings.expression_bytes
        )
        while True:
            evaluation = self._snapshot
            decision = watchdog.judge(evaluation, self._usage.sample(), time.monotonic_ns())
            if decision is not None and evaluation is self._snapshot:
                return decision
            await asyncio.sleep(self._poll_seconds)

    def _kill(self) -> None:
        self._is_killed = True
        if self.process.returncode is None:
            self.process.kill()

    async def close(self) -> None:
        self._kill()
        await self.process.wait()
        self._link.close()

    # --- in the thread ------------------------------------------------------------------------------------------------

    def first(self, program: str, text: str, instance: str) -> str | None:
        """See `RemoteEvaluator.first`; raises `_ProcessGone`, too, which `run` translates."""
        return self._call(instance, evaluation.first_result, program.encode(), text.encode())

    def violation(self, schema: Any, data: Any, instance: str) -> str | None:
        """See `RemoteEvaluator.violation`; raises `_ProcessGone`, too, which `run` translates."""
        return self._call(instance, evaluation.first_violation, orjson.dumps(schema), json_codec.encode(data))

    def event_input(self, event: Event, *, webhook: bool, raw: bool, owner: str, contents: Mapping[int, bytes]) -> str:
        """Return `workflow_input.workflow_input` as JSON; `ValueError` if it can't be built.

        Parse the result under the guard's supervision.
        """
        options = orjson.dumps([webhook, raw, owner, list(contents)])
        parts = (convert.event_to_bytes(event), options, *contents.values())
        return self._call(INPUT, evaluation.event_input, *parts, activity=Activity.BODY) or "null"

    def _call(
        self, instance: str, function: worker.Function, *parts: bytes, activity: Activity = Activity.EXPRESSION
    ) -> str | None:
        number = self._snapshot.sequence + 1
        self._snapshot = RecordSnapshot(number, time.monotonic_ns(), 0, b"", instance, activity)
        try:
            self._link.sendall(worker.encode_call(function, parts))
            answer = frames.receive(self._link)
        except (OSError, EOFError):
            raise _ProcessGone from None
        self._snapshot = RecordSnapshot(number, 0, 0, b"", instance)
        self._slowest_ns = max(self._slowest_ns, worker.cpu_time(answer))
        try:
            result = worker.read_result(function, answer, _limits(self._settings))
        except (worker.OutOfMemoryError, InternalError) as problem:
            self._kill()
            reason = f"{SUBJECTS[activity]} can't be evaluated: {problem.message}"
            raise EvaluationKilled(error(Kind.EXPRESSION, reason, instance=instance)) from None
        except InvalidError as refusal:
            raise ValueError(refusal.message) from None
        return result[0].decode() if result else None


def _limits(settings: RunnerSettings) -> worker.ProcessLimits:
    """Return the limits that the process sets itself: a second line of defence, for when this one can't act."""
    # twice the allowed growth, plus what the process needs already
    memory = 2 * settings.expression_bytes + 256 * limits.MIB
    return worker.ProcessLimits(settings.expression_seconds + GRACE_SECONDS, memory)


def _exit_name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


class EvaluatorPool(ProcessPool[IsolatedEvaluator]):
    """The pool of a runner, and the threads that use its processes."""

    def __init__(
        self,
        settings: RunnerSettings,
        *,
        start: Callable[[RunnerSettings], Awaitable[IsolatedEvaluator]] = IsolatedEvaluator.start,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        # the executions of a runner are limited already: all of them may wait
        limit = replace(OffloadLimits().processes, waiting=MAX_EXECUTIONS)
        super().__init__(partial(start, settings), "quarantine", limit, retry_seconds=retry_seconds)
        self.threads: Executor = ThreadPoolExecutor(limit.total, thread_name_prefix="quarantine")

    @override
    async def aclose(self) -> None:
        await super().aclose()
        self.threads.shutdown(wait=False)
