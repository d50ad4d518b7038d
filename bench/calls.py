"""Measures executions of ten tasks, of which three call an HTTP server on this machine.

Run: .venv/bin/python -m bench.calls [--executions 3000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any, Final

from bench.echo_server import echo_server
from bench.events import BATCH, ended, ingest
from harness.cluster import Cluster, running_cluster

FOLDER: Final = Path(__file__).parent
WARM_UP: Final = 2 * BATCH
"""Executions before the measurement; they open connections and compile expressions."""
MAX_SECONDS: Final = 60.0
"""Limit in seconds for all executions."""


async def apply_flow(cluster: Cluster, name: str, server: str) -> str:
    """Apply the flow that calls `server` under a name, paused; returns its ID."""
    document = (FOLDER / "calls.yaml").read_text().replace("NAME", name).replace("SERVER", server)
    await cluster.client.flows.apply([document.encode()])
    flow_id = f"bench.{name}"
    await cluster.client.flows.pause(flow_id)
    return flow_id


async def bench(cluster: Cluster, server: str, count: int) -> dict[str, Any]:
    """Measure on a cluster that may call `server`, and return the figures."""
    rates = []
    for name, executions in (("calls-warm-up", WARM_UP), ("calls", count)):
        flow_id = await apply_flow(cluster, name, server)
        await ingest(cluster.grpc, cluster.token("edge"), flow_id, executions)
        began = time.time()
        await cluster.client.flows.resume(flow_id)
        last = max(each.end_time_ms or 0 for each in await ended(cluster.client, flow_id, within=MAX_SECONDS))
        rates.append(executions / (last / 1000 - began))
    return {"calls_executions": count, "calls_rps": round(rates[-1]), "calls_per_second": round(3 * rates[-1])}


async def _alone(count: int) -> dict[str, Any]:
    async with echo_server() as server, running_cluster("--allow-private-addresses") as cluster:
        return await bench(cluster, server, count)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.calls", description=__doc__)
    parser.add_argument("--executions", type=int, default=3000, help=f"rounded down to a multiple of {BATCH}")
    print(json.dumps(asyncio.run(_alone(parser.parse_args().executions // BATCH * BATCH)), indent=2))


if __name__ == "__main__":
    main()
