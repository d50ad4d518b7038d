"""One running process, and the socket on which it says that it is ready."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from typing import Self

import orjson

from cli.supervisor import priority
from cli.supervisor.command import Command
from flowhook.process import PARENT_FD

Addresses = dict[str, str]
"""Where a process listens, `host:port` by kind (`http`, `grpc`)."""


class Child:
    """A process that ends at the latest when this one does: it holds the other end of a socket of ours."""

    def __init__(self, process: asyncio.subprocess.Process, link: socket.socket) -> None:
        self._process = process
        self._link = link
        self.pid = process.pid

    @classmethod
    async def start(cls, command: Command) -> Self:
        """Start a process.

        Raises:
            OSError: the system refuses.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *command.arguments,
                env={**command.environment, PARENT_FD: str(theirs.fileno())},
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for the supervisor, which knows in which order to stop
            )
            await priority.lower(process.pid, command.nice)
        except BaseException:
            ours.close()  # and the process ends, if it was started
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    async def run(self, on_ready: Callable[[Addresses], None]) -> int:
        """Wait until the process has ended and return its exit code, negative for a signal.

        Args:
            on_ready: called when the process says that it serves, with its addresses.
        """
        reader, writer = await asyncio.open_connection(sock=self._link)
        try:
            while line := await _read_line(reader):
                message = orjson.loads(line)
                if message.get("ready"):
                    on_ready(message["addresses"])
            return await self._process.wait()
        finally:
            writer.close()

    async def wait(self) -> int:
        """Wait until the process has ended and return its exit code, negative for a signal."""
        return await self._process.wait()

    def terminate(self) -> None:
        """Ask the process to drain and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process, with everything that it started in its session."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ConnectionError:
        return b""
