"""Measures how a flow with a backlog slows a quiet one: p99 from receipt to end at 10 events/s, beside it and alone.

The quiet flow is measured alternately alone and beside the backlog, because the machine's speed varies, and the p99 is
that of all turns: in one turn it is the second slowest execution, which differs by half from turn to turn. Each turn
has a warm-up of some seconds, because the first execution in a runner compiles the document, and storage has work left
after it accepted 100,000 events at once. The backlog is of the flow of `calls`, so that it lasts for the whole turn,
which is checked; with `--pure` it is of a flow whose executions make no call, and end in their first turn.

Run: .venv/bin/python -m bench.fairness [--backlog 100000] [--seconds 60] [--pure]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from bench import calls
from bench.echo_server import echo_server
from bench.events import BATCH, count, ended, ingest
from bench.load import Request, at_rate
from bench.log import log
from bench.requests import apply_flow, signed
from flowhook.model import Status
from harness.cluster import Cluster, running_cluster

RATE: Final = 10.0
"""Events/s of the quiet flow."""
TURNS: Final = 3
"""Number of measurements of each kind."""
WARM_UP_SECONDS: Final = 3.0
"""Warm-up of a turn, long enough for each runner to execute the flow."""
MAX_SECONDS: Final = 30.0
"""Limit in seconds for the executions of the quiet flow."""


async def bench(cluster: Cluster, server: str, backlog: int, seconds: float, *, pure: bool = False) -> dict[str, Any]:
    """Measure for `seconds` alone and as long beside a backlog, on a cluster that may call `server`.

    Raises:
        RuntimeError: an execution of the quiet flow did not complete, or the backlog was gone before the end of a turn.
    """
    key = secrets.token_hex(16)
    await cluster.client.secrets.set("bench", key.encode())
    if pure:
        noisy = await apply_flow(cluster.client, "noisy")
        await cluster.client.flows.pause(noisy)
    else:
        noisy = await calls.apply_flow(cluster, "noisy", server)
    quiet = await apply_flow(cluster.client, "quiet")
    alone: list[int] = []
    beside: list[int] = []
    for turn in range(1, TURNS + 1):
        alone += await _latencies(cluster, quiet, key, seconds / TURNS)
        left = await _number(cluster, noisy, Status.PENDING)
        await ingest(cluster.grpc, cluster.token("edge"), noisy, backlog - left)
        await cluster.client.flows.resume(noisy)
        beside += await _latencies(cluster, quiet, key, seconds / TURNS)
        await cluster.client.flows.pause(noisy)
        if not await _number(cluster, noisy, Status.PENDING, limit=1):
            raise RuntimeError(f"the backlog of {backlog} was gone before the quiet flow was measured")
        log(f"fairness: turn {turn} of {TURNS}")
    if await _number(cluster, noisy, Status.FAULTED, limit=1):
        raise RuntimeError("executions of the flow with the backlog faulted")
    p99_alone, p99 = _quantile(alone, 0.99), _quantile(beside, 0.99)
    return {
        "fairness_backlog": backlog,
        "fairness_events": len(beside),
        "fairness_p50_alone_ms": round(_quantile(alone, 0.5), 1),
        "fairness_p50_ms": round(_quantile(beside, 0.5), 1),
        "fairness_p99_alone_ms": round(p99_alone, 1),
        "fairness_p99_ms": round(p99, 1),
        "fairness": round(p99 / p99_alone, 2),
    }


async def _latencies(cluster: Cluster, flow_id: str, key: str, seconds: float) -> list[int]:
    """Send events to a flow, warm up first, and return how long each took from receipt to end, in ms."""
    request: Request = signed(f"{cluster.http}/hook/{flow_id}", key)
    await at_rate(request, RATE, min(WARM_UP_SECONDS, seconds / 4))
    since_ms = time.time_ns() // 1_000_000
    await at_rate(request, RATE, seconds)
    executions = await ended(cluster.client, flow_id, within=MAX_SECONDS)
    return [(each.end_time_ms or 0) - each.receive_time_ms for each in executions if each.receive_time_ms >= since_ms]


def _quantile(values: Sequence[int], fraction: float) -> float:
    """Return the quantile of whole numbers, interpolated.

    A value of 6 stands for 5.5 to 6.5, and equal values count as evenly spread within that, as in
    `statistics.median_grouped`: a step from 6 to 7 would change a ratio by a sixth.
    """
    rank = fraction * len(values)
    below = 0
    for value, equal in sorted(Counter(values).items()):
        if below + equal >= rank:
            return value - 0.5 + (rank - below) / equal
        below += equal
    raise ValueError("no values")


async def _number(cluster: Cluster, flow_id: str, status: Status, *, limit: int | None = None) -> int:
    return await count(cluster.client.executions.list(flow_id=flow_id, statuses=[status], limit=limit))


async def _alone(backlog: int, seconds: float, *, pure: bool) -> dict[str, Any]:
    async with echo_server() as server, running_cluster("--allow-private-addresses") as cluster:
        return await bench(cluster, server, backlog, seconds, pure=pure)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--backlog", type=int, default=100_000, help=f"rounded down to a multiple of {BATCH}")
    parser.add_argument("--seconds", type=float, default=60.0, help="measured alone, and as long beside it")
    parser.add_argument("--pure", action="store_true", help="the backlog's executions make no call")
    options = parser.parse_args()
    backlog = options.backlog // BATCH * BATCH
    print(json.dumps(asyncio.run(_alone(backlog, options.seconds, pure=options.pure)), indent=2))


if __name__ == "__main__":
    main()
