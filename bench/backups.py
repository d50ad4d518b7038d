"""Measures what backups cost senders: the latency of acceptance at a fixed rate, with and without a backup, in turns.

Run: .venv/bin/python -m bench.backups [--data-dir DIR] [--executions 100000] [--rate 300] [--seconds 10] [--turns 3]

`--data-dir` has executions already, which takes long for a million; without it, a new one gets them. Backups follow one
another for as long as a turn lasts; the start of the first, half a second of CPU time, is not measured. Executions of
the events run meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.events import payload
from bench.load import at_rate, saturate
from bench.requests import apply_flow, quantile, signed
from flowhook.events import ids
from flowhook.model import Status
from harness.cluster import running_cluster
from router.storage.model import Ended, NewEvent, Started
from router.storage.storage import open_storage

BATCH = 2000
START_SECONDS = 2.5  # after which a backup has started, and has removed what one before it left that was killed


async def _fill(path: Path, executions: int) -> None:
    storage = await open_storage(path)
    state, now_ms = await storage.own(), time.time_ns() // 1_000_000
    for _ in range(executions // BATCH):
        new = [NewEvent(ids.mint(ids.slot_of("old")), "old", 1, now_ms, payload()) for _ in range(BATCH)]
        stored = [each.seq for each in await storage.log.append(new)]
        ended = (Ended(seq, Status.COMPLETED, now_ms, 1, output=b'{"ok":true}') for seq in stored)
        await state.write([change for each in ended for change in (Started(each.seq, 1, 1), each)])
    await storage.close()


async def _back_up(data_dir: Path, target: Path, times: list[float]) -> None:
    while True:
        start = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "cli", "backup", target, "--data-dir", data_dir, stdout=subprocess.DEVNULL
        )
        try:
            await process.wait()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        times.append(time.monotonic() - start)


async def measure(data_dir: Path, *, rate: float, seconds: float, turns: int) -> None:
    """Print p50 and p99 without and with backups, in ms."""
    async with running_cluster(data_dir=data_dir) as cluster:
        key = secrets.token_hex(16)
        await cluster.client.secrets.set("bench", key.encode())
        flow_id = await apply_flow(cluster.client, "backups")
        request = signed(f"{cluster.http}/hook/{flow_id}", key)
        await saturate(request, 2.0)
        found: dict[bool, list[float]] = {False: [], True: []}
        times: list[float] = []
        for turn in range(2 * turns):
            making = None
            if turn % 2:
                making = asyncio.create_task(_back_up(data_dir, data_dir.with_name("bench.tar.zst"), times))
            await asyncio.sleep(START_SECONDS)
            found[bool(turn % 2)] += await at_rate(request, rate, seconds)
            if making is not None:
                making.cancel()
                await asyncio.wait({making})
        for with_backup, latencies in found.items():
            p50, p99 = (quantile(sorted(latencies), each) * 1000 for each in (0.5, 0.99))
            print(f"{'with' if with_backup else 'without'} a backup: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
        print(f"{len(times)} backups, {', '.join(f'{each:.0f} s' for each in times)}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data_dir = options.data_dir or Path(scratch, "data")
        if options.data_dir is None:
            asyncio.run(_fill(data_dir / "flowhook.db", options.executions))
        asyncio.run(measure(data_dir, rate=options.rate, seconds=options.seconds, turns=options.turns))


if __name__ == "__main__":
    main()
