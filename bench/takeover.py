"""Measures what several routers cost and how fast they take over: time without an owner, and the cluster at rest.

*Takeover*: the router that serves is killed with SIGKILL, with and without unfinished executions. The time counts from
the kill to the first event that is acknowledged again, and to another router serving. *At rest*: CPU time of all
processes of the cluster, NATS servers included, and transactions a second in the log, while nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from typing import Any, Final

import psutil

from bench.events import ingest
from bench.load import LoadConnection, Request
from bench.log import log
from bench.replicated import running_system
from flowhook.errors import FlowhookError
from harness.cluster import Cluster

WITHIN_SECONDS: Final = 120.0
"""Limit of every wait; the measurement fails after it."""
LOOK_SECONDS: Final = 0.01
ACCEPTED: Final = 202
SETTLE_SECONDS: Final = 5.0
"""Between the start of a cluster and its measurement at rest."""
FLOW: Final = """
document: {{dsl: 1.0.3, namespace: bench, name: {name}, version: 1.0.0}}
webhook: {{auth: none}}
do:
  - keep: {{set: {{a: 1}}}}
"""


async def bench(unfinished: int, times: int, idle_seconds: float) -> dict[str, Any]:
    """Measure at rest, then `times` takeovers each without and with unfinished executions; return the figures."""
    async with running_system("r3_standby") as cluster:
        await cluster.client.flows.apply([FLOW.format(name=name).encode() for name in ("probe", "backlog")])
        await cluster.client.flows.pause("bench.probe")
        await cluster.client.flows.pause("bench.backlog")
        figures = await _at_rest(cluster, idle_seconds)
        figures |= _summary("takeover", [await _take_over(cluster) for _ in range(times)])
        await ingest(cluster.grpc, cluster.token("edge"), "bench.backlog", unfinished)
        log(f"{unfinished:,} unfinished executions")
        figures |= _summary("takeover_backlog", [await _take_over(cluster) for _ in range(times)])
    return {"takeover_unfinished": unfinished, **figures}


async def _take_over(cluster: Cluster) -> tuple[float, float]:
    """Kill the owner; return the seconds until an event is accepted, and until another router serves."""
    owner = await _redundant_owner(cluster)
    request = Request(f"{cluster.http}/hook/bench.probe", {"Content-Type": "application/json"}, b"{}")
    os.kill(cluster.pid(owner), signal.SIGKILL)
    began = time.monotonic()
    async with asyncio.timeout(WITHIN_SECONDS), asyncio.TaskGroup() as tasks:
        accepted = tasks.create_task(_until_accepted(request))
        served = tasks.create_task(_until_served(cluster, besides=owner))
    log(f"takeover: accepting after {accepted.result() - began:.2f} s, serving after {served.result() - began:.2f} s")
    return accepted.result() - began, served.result() - began


async def _redundant_owner(cluster: Cluster) -> str:
    """Wait until a router serves and another one has all that the log has; return the owner's name."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            try:
                (shard,) = (await cluster.client.cluster.shards()).shards
            except FlowhookError:
                continue
            copies = [copy for copy in shard.copies if copy.router != shard.owner]
            if shard.serving and any(
                copy.silence < 1 and copy.state == "following" and copy.position >= shard.position for copy in copies
            ):
                return shard.owner
            await asyncio.sleep(LOOK_SECONDS)


async def _until_accepted(request: Request) -> float:
    """Send one event after another until one is accepted; return when that was."""
    while True:
        try:
            connection = await LoadConnection.open(request.url)
            status = await connection.exchange(request.encoded())
            connection.close()
            if status == ACCEPTED:
                return time.monotonic()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the edge did not answer
        await asyncio.sleep(LOOK_SECONDS)


async def _until_served(cluster: Cluster, *, besides: str) -> float:
    while True:
        try:
            (shard,) = (await cluster.client.cluster.shards()).shards
            if shard.serving and shard.owner != besides:
                return time.monotonic()
        except FlowhookError:
            pass  # the router that was asked has just ended
        await asyncio.sleep(LOOK_SECONDS)


async def _at_rest(cluster: Cluster, seconds: float) -> dict[str, Any]:
    await asyncio.sleep(SETTLE_SECONDS)
    before, position = _cpu(), await _position(cluster)
    began = time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    used = {name: (total - before.get(name, 0.0)) / took for name, total in _cpu().items()}
    return {
        "idle_cpu_percent": round(100 * sum(used.values()), 1),
        "idle_cpu_percent_of": {name: round(100 * share, 1) for name, share in sorted(used.items())},
        "idle_batches_per_second": round((await _position(cluster) - position) / took, 2),
    }


def _cpu() -> dict[str, float]:
    """Return the CPU seconds of all processes of this one's, by what they are."""
    totals: dict[str, float] = {}
    for process in psutil.Process().children(recursive=True):
        command = [word for word in process.cmdline() if word]
        # those that were forked show `flowhook edge-1`
        name = "nats-server" if "nats-server" in command[0] else command[-1].removeprefix("flowhook ").partition("-")[0]
        times = process.cpu_times()
        totals[name] = totals.get(name, 0.0) + times.user + times.system
    return totals


async def _position(cluster: Cluster) -> int:
    (shard,) = (await cluster.client.cluster.shards()).shards
    return shard.position


def _summary(name: str, takeovers: list[tuple[float, float]]) -> dict[str, Any]:
    accepted, served = zip(*takeovers, strict=True)
    return {
        f"{name}_accept_seconds": round(statistics.median(accepted), 2),
        f"{name}_accept_max_seconds": round(max(accepted), 2),
        f"{name}_serving_seconds": round(statistics.median(served), 2),
        f"{name}_serving_max_seconds": round(max(served), 2),
    }
