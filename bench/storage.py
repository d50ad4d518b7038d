"""Measures the SQLite backend: events appended and executions ended per second, CPU of the writer, commit sizes.

Run: .venv/bin/python bench/storage.py [--seconds 5] [--dedupe] [--busy MS] [--switch MS]

Senders append batches and end what they appended, as the router does for edges and runners. `--busy` keeps the event
loop's thread computing meanwhile, as in a loaded router, which shows waits for the GIL.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from flowhook.events import ids
from flowhook.model import Status
from router.storage.event_log import EventLog
from router.storage.model import Ended, NewEvent, Started
from router.storage.shard_state import ShardState
from router.storage.storage import Storage, open_storage
from router.storage.writer import QueuedWrite, Writer

PAYLOAD_BYTES = 1024
BATCH_EVENTS = 48
SENDERS = 2
"""Batches in flight; an edge sends the next one after the answer to the last one."""


class Meter:
    """Measures the commits of the writer's thread."""

    def __init__(self, writer: Writer) -> None:
        self.cpu_seconds = 0.0
        self.wall_seconds = 0.0
        self.slowest = 0.0
        self.transactions = 0
        self.calls: Counter[int] = Counter()
        self._commit = writer._commit  # noqa: SLF001 - a benchmark looks inside
        writer._commit = self._measured  # type: ignore[method-assign]  # noqa: SLF001

    def _measured(self, batch: Sequence[QueuedWrite]) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        self._commit(batch)
        took = time.perf_counter() - wall
        self.cpu_seconds += time.thread_time() - cpu
        self.wall_seconds += took
        self.slowest = max(self.slowest, took)
        self.transactions += 1
        self.calls[len(batch)] += 1

    def report(self, name: str, events: int, seconds: float) -> None:
        """Print what was counted since the last report, and start over."""
        commits = max(self.transactions, 1)
        per_event = 1e6 / max(events, 1)
        print(
            f"{name:<18} {events / seconds:>8,.0f}/s  writer {self.cpu_seconds * per_event:>5.1f} us/event CPU;"
            f" commit {1e3 * self.wall_seconds / commits:>5.2f} ms (slowest {1e3 * self.slowest:.0f}),"
            f" {events / commits:>5.1f} events, calls {dict(sorted(self.calls.items())[:8])}"
        )
        self.cpu_seconds = self.wall_seconds = self.slowest = 0.0
        self.transactions = 0
        self.calls.clear()


def _events(payload: bytes, *, dedupe: bool) -> list[NewEvent]:
    now_ms = time.time_ns() // 1_000_000
    return [
        NewEvent(
            event_id=event_id,
            flow_id="bench",
            flow_revision=1,
            receive_time_ms=now_ms,
            payload=payload,
            dedupe_key=os.urandom(16).hex() if dedupe else "",
            dedupe_until_ms=now_ms + 86_400_000,
        )
        for event_id in (ids.mint(7, now_ms=now_ms) for _ in range(BATCH_EVENTS))
    ]


async def _append(log: EventLog, until: float, *, dedupe: bool) -> list[int]:
    payload = os.urandom(PAYLOAD_BYTES)
    seqs: list[int] = []
    while time.perf_counter() < until:
        seqs += [appended.seq for appended in await log.append(_events(payload, dedupe=dedupe))]
    return seqs


async def _end(state: ShardState, seqs: Sequence[int], *, started: bool, output: bytes | None) -> None:
    for start in range(0, len(seqs), BATCH_EVENTS):
        some = seqs[start : start + BATCH_EVENTS]
        if started:
            await state.write([Started(seq, 1) for seq in some])
        now_ms = time.time_ns() // 1_000_000
        await state.write(
            [Ended(seq, Status.COMPLETED, now_ms, 1, output, runner="runner-1", assign_time_ms=now_ms) for seq in some]
        )


async def _whole(log: EventLog, state: ShardState, until: float, *, dedupe: bool) -> int:
    payload = os.urandom(PAYLOAD_BYTES)
    count = 0
    ending: asyncio.Task[None] | None = None
    while time.perf_counter() < until:
        appended = await log.append(_events(payload, dedupe=dedupe))
        if ending:
            await ending
        seqs = [each.seq for each in appended]
        count += len(seqs)
        ending = asyncio.ensure_future(_end(state, seqs, started=True, output=b'{"ok":true,"order":"12345678"}'))
    if ending:
        await ending
    return count


async def _busy(iteration_seconds: float) -> None:
    while True:
        until = time.perf_counter() + iteration_seconds
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)


async def _run(path: Path, seconds: float, *, dedupe: bool, busy_ms: float) -> None:
    storage = await open_storage(path)
    assert isinstance(storage, Storage)  # noqa: S101 - whose inside is measured
    meter = Meter(storage.writer)
    log, state = storage.log, await storage.own()
    noise = asyncio.ensure_future(_busy(busy_ms / 1e3)) if busy_ms else None

    began = time.perf_counter()
    parts = await asyncio.gather(*(_append(log, began + seconds, dedupe=dedupe) for _ in range(SENDERS)))
    seqs = [seq for part in parts for seq in part]
    meter.report("append", len(seqs), time.perf_counter() - began)

    seqs.sort()
    half = len(seqs) // 2
    for name, some, output in (("end", seqs[:half], None), ("end with output", seqs[half:], b'{"ok":true}')):
        began = time.perf_counter()
        await asyncio.gather(
            *(_end(state, some[part::SENDERS], started=False, output=output) for part in range(SENDERS))
        )
        meter.report(name, len(some), time.perf_counter() - began)

    began = time.perf_counter()
    counts = await asyncio.gather(*(_whole(log, state, began + seconds, dedupe=dedupe) for _ in range(SENDERS)))
    meter.report("append, start, end", sum(counts), time.perf_counter() - began)

    began = time.perf_counter()
    removed = await state.expire(ended_before_ms=1 << 46, limit=20_000)
    meter.report("expire", removed, time.perf_counter() - began)
    if noise:
        noise.cancel()
    await storage.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"peak memory {memory} MiB")


def main() -> None:
    """Run the benchmark in a new directory under the current one's file system."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--dedupe", action="store_true", help="give each event a dedupe key")
    parser.add_argument("--busy", type=float, default=0.0, metavar="MS", help="length of a busy loop's iterations")
    parser.add_argument("--switch", type=float, default=5.0, metavar="MS", help="the interpreter's switch interval")
    options = parser.parse_args()
    sys.setswitchinterval(options.switch / 1e3)
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as directory:
        asyncio.run(_run(Path(directory) / "flowhook.db", options.seconds, dedupe=options.dedupe, busy_ms=options.busy))


if __name__ == "__main__":
    main()
