"""One child process: how it is started, and the pipe and the record that it shares with its parent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from typing import Final, Self

from flowhook.config import RunnerSettings
from runner.control import Pipe
from runner.guard.record import Record
from runner.guard.watch import Memory, Verdict, Watch

POLL_SECONDS: Final = 0.025
IDLE_POLL_SECONDS: Final = 0.1
"""Between looks while the child evaluates things, and when it has not for a while."""
IDLE_AFTER: Final = 40
"""Looks without a new evaluation after which the child counts as idle."""

_PASSED_ON: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""What of the environment a child needs to start: where the machine keeps its certificates. It clears it then."""


class Child:
    """A child that was started. It waits for `control.Begin` before it does anything, so it may be a spare."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: Pipe, record: Record) -> None:
        self.process = process
        self.pipe = pipe
        self.record = record
        self.memory = Memory(process.pid, os.sysconf("SC_PAGE_SIZE"))

    @classmethod
    async def spawn(cls) -> Self:
        """Start a child with an environment as good as empty, since jq would show it to expressions.

        Raises:
            OSError: it can't be started.
        """
        ours, theirs = socket.socketpair()
        record = Record()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                # isolated: neither the directory it is started in nor PYTHON* variables lead it to other code
                "-I",
                "-m",
                "runner.worker",
                str(theirs.fileno()),
                str(record.descriptor),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), record.descriptor),
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            )
        except OSError:
            ours.close()
            record.close()
            raise
        finally:
            theirs.close()
        return cls(process, await Pipe.open(ours), record)

    async def watch(self, settings: RunnerSettings) -> Verdict:
        """Look at what it evaluates for as long as all is well; returns why it has to die."""
        watch = Watch(expression_seconds=settings.expression_seconds, expression_bytes=settings.expression_bytes)
        sequence, quiet = 0, 0
        while True:
            evaluation = self.record.read()
            memory = self.memory.resident() if evaluation.started_ns else 0
            verdict = watch.look(evaluation, memory, time.monotonic_ns())
            if verdict is not None:
                return verdict
            quiet = quiet + 1 if evaluation.sequence == sequence and not evaluation.started_ns else 0
            sequence = evaluation.sequence
            await asyncio.sleep(POLL_SECONDS if quiet < IDLE_AFTER else IDLE_POLL_SECONDS)

    async def kill(self) -> None:
        """End it at once and wait until it is gone."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()

    async def close(self) -> None:
        """Kill it if it lives, and let go of what is shared."""
        await self.kill()
        self.pipe.close()
        self.record.close()
