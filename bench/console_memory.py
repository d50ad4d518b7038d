"""Measures the memory of the admin process over a long time of live updates.

Run: .venv/bin/python -m bench.console_memory [--seconds 3600]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from typing import Any, Final

from bench.console import logged_in, open_lists
from bench.events import BATCH, ingest
from bench.flows import memory
from bench.log import log
from bench.requests import apply_flow
from harness.cluster import Cluster, running_cluster

LISTS: Final = 8
"""Live lists that are open."""
SAMPLE_SECONDS: Final = 15.0
"""Between two looks at the memory; in between, one batch of events changes the lists all the time."""
PATHS: Final = ("/flows", "/executions", "/faults", "/rejections", "/secrets", "/cluster", "/audit")
"""Pages that somebody looks at meanwhile."""


async def bench(seconds: float) -> dict[str, Any]:
    """Watch for `seconds`; return the memory in MiB, and its growth by least squares in the second half."""
    async with running_cluster("--runners", "1") as cluster:
        flow_id = await apply_flow(cluster.client, "run")
        samples: list[tuple[float, float]] = []
        async with open_lists(cluster, LISTS) as received, asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(_send(cluster, flow_id)), tasks.create_task(_browse(cluster))]
            began = time.monotonic()
            while (at := time.monotonic() - began) < seconds:
                samples.append((at, memory(cluster.pid("admin-1"))))
                log(f"{at:.0f} s: {samples[-1][1]:.1f} MiB")
                await asyncio.sleep(min(SAMPLE_SECONDS, seconds / 20))
            for task in background:
                task.cancel()
        later = samples[len(samples) // 2 :]
        slope = statistics.linear_regression(*zip(*later, strict=True)).slope
        return {
            "console_memory_seconds": round(seconds),
            "console_memory_lists": LISTS,
            "console_memory_received_mib": round(sum(received) / (1 << 20), 1),
            "console_memory_first_mib": round(samples[0][1], 1),
            "console_memory_half_mib": round(later[0][1], 1),
            "console_memory_last_mib": round(samples[-1][1], 1),
            "console_memory_mib_per_hour": round(slope * 3600, 2),
        }


async def _send(cluster: Cluster, flow_id: str) -> None:
    while True:
        await ingest(cluster.grpc, cluster.token("edge"), flow_id, BATCH)
        await asyncio.sleep(5)


async def _browse(cluster: Cluster) -> None:
    async with logged_in(cluster) as session:
        while True:
            for path in PATHS:
                async with session.get(path) as response:
                    await response.read()
            await asyncio.sleep(1)


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.console_memory", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    print(json.dumps(asyncio.run(bench(parser.parse_args().seconds)), indent=2))


if __name__ == "__main__":
    main()
