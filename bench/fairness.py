"""What a flow with a backlog does to a quiet one: p99 from receipt to end at 10 events/s, as a multiple of that alone.

It is the same flow both times, and it has run for some seconds before, as the other one has by the time that it is
measured again: what the first execution in a runner needs (the document, and its programs compiled), and what taking in
50,000 events at once leaves to storage, is not looked at here. The backlog is of the flow of `calls`, so that it lasts:
whether it did is checked, or the figure would say nothing.

Run: .venv/bin/python -m bench.fairness [--backlog 50000] [--seconds 20]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import time
from typing import Any, Final

from bench import calls
from bench.answering import answering_server
from bench.cluster import Cluster, running_cluster
from bench.events import BATCH, ended, ingest
from bench.load import Request, at_rate
from bench.requests import apply_flow, quantile, signed
from flowhook.model import Execution, Status

RATE: Final = 10.0
"""Events/s of the quiet flow."""
WARM_UP_SECONDS: Final = 3.0
"""How long it runs each time before it is measured: long enough for each runner to have had it."""
MAX_SECONDS: Final = 30.0
"""That executions of the quiet flow may take."""


async def bench(cluster: Cluster, server: str, backlog: int, seconds: float) -> dict[str, Any]:
    """Measure on a cluster that may call `server`, and return the figures.

    Raises:
        RuntimeError: an execution of the quiet flow did not complete, or the backlog was gone before the end.
    """
    key = secrets.token_hex(16)
    await cluster.client.secrets.set("bench", key.encode())
    noisy = await calls.apply_flow(cluster, "noisy", server)
    quiet = await apply_flow(cluster.client, "quiet")
    await _latencies(cluster, quiet, key, WARM_UP_SECONDS)
    alone = await _latencies(cluster, quiet, key, seconds)
    await ingest(cluster.grpc, cluster.token("edge"), noisy, backlog)
    await cluster.client.flows.resume(noisy)
    await _latencies(cluster, quiet, key, WARM_UP_SECONDS)
    beside = await _latencies(cluster, quiet, key, seconds)
    await cluster.client.flows.pause(noisy)
    if not await _any(cluster, noisy, Status.PENDING):
        raise RuntimeError(f"the backlog of {backlog} was gone before the quiet flow was measured")
    if await _any(cluster, noisy, Status.FAULTED):
        raise RuntimeError("executions of the flow with the backlog faulted")
    p99_alone, p99 = quantile(alone, 0.99), quantile(beside, 0.99)
    return {
        "fairness_backlog": backlog,
        "fairness_p50_alone_ms": round(statistics.median(alone), 1),
        "fairness_p50_ms": round(statistics.median(beside), 1),
        "fairness_p99_alone_ms": round(p99_alone, 1),
        "fairness_p99_ms": round(p99, 1),
        "fairness": round(p99 / p99_alone, 1),
    }


async def _latencies(cluster: Cluster, flow_id: str, key: str, seconds: float) -> list[float]:
    """Send events to a flow and return how long each took from receipt to end, in ms, ascending."""
    since_ms = time.time_ns() // 1_000_000
    request: Request = signed(f"{cluster.http}/hook/{flow_id}", key)
    await at_rate(request, RATE, seconds)
    executions = await ended(cluster.client, flow_id, within=MAX_SECONDS)
    return sorted(_took(each) for each in executions if each.receive_time_ms >= since_ms)


async def _any(cluster: Cluster, flow_id: str, status: Status) -> bool:
    return bool([each async for each in cluster.client.executions.list(flow_id=flow_id, statuses=[status], limit=1)])


def _took(execution: Execution) -> float:
    return float(max(1, (execution.end_time_ms or 0) - execution.receive_time_ms))


async def _alone(backlog: int, seconds: float) -> dict[str, Any]:
    async with answering_server() as server, running_cluster("--allow-private-addresses") as cluster:
        return await bench(cluster, server, backlog, seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--backlog", type=int, default=50_000, help=f"rounded down to a multiple of {BATCH}")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each measurement")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(_alone(options.backlog // BATCH * BATCH, options.seconds)), indent=2))


if __name__ == "__main__":
    main()
