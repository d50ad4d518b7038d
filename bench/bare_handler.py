"""Runs the bare handler (`bench.bare`), which the edge is compared with, as a process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple


class BareHandler(NamedTuple):
    """A running handler: its URL and its process ID."""

    url: str
    pid: int


@asynccontextmanager
async def bare_handler() -> AsyncIterator[BareHandler]:
    """Run the bare handler and yield it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.bare", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    port = int(await process.stdout.readline())
    yield BareHandler(f"http://127.0.0.1:{port}/hook/bench", process.pid)
    await process.communicate(b"")
