"""Measures latencies at rates that leave room, and what a cluster takes at rest.

- p99 of acceptance at half of the rate at which events are accepted at most, beside a bare handler's at the same rate;
- from receipt to the first call: the time at which a server on this machine gets the call of a flow's only task, less
  the execution's `receive_time`;
- at rest: memory (PSS) and CPU time of all processes of `flowhook up`, a minute after its start.

Run: .venv/bin/python -m bench.latency [--seconds 10] [--rest 60]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from typing import Any, Final

import psutil
from aiohttp import web

from bench.acceptance import MAX_SECONDS, WARM_UP, saturated
from bench.bare_handler import bare_handler
from bench.cpu import cpu_time, processes
from bench.events import ended, payload
from bench.load import Request, at_rate, saturate
from bench.log import log
from bench.requests import apply_flow, quantile, signed
from harness.cluster import Cluster, running_cluster

TURNS: Final = 3
"""Turns of the edge and the bare handler."""
CALLS_A_SECOND: Final = 20.0
"""Events a second of the flow whose first call is timed."""
REST_AFTER: Final = 60.0
"""Seconds from the start to the measurement at rest."""

FLOW: Final = """
document: {dsl: 1.0.3, namespace: bench, name: call, version: 1.0.0}
webhook: {auth: {hmac: {secret: bench, header: X-Signature, prefix: sha256=}}}
do:
  - tell: {call: http, with: {method: post, endpoint: "SERVER", body: {id: "${ $workflow.input.id }"}}}
"""


async def acceptance(cluster: Cluster, key: str, seconds: float) -> dict[str, Any]:
    """Measure p50 and p99 of acceptance, and of the bare handler, at half of the rate of acceptance at saturation."""
    flow_id = await apply_flow(cluster.client, "accept")
    await cluster.client.flows.pause(flow_id)
    request = signed(f"{cluster.http}/hook/{flow_id}", key)
    async with bare_handler() as handler:
        bare = Request(handler.url, {"Content-Type": "application/json"}, payload())
        for each in (request, bare):
            await saturate(each, WARM_UP)
        most = (await saturated("durable acceptance", request, seconds)).per_second
        found: dict[str, list[float]] = {"": [], "bare_": []}
        for _ in range(TURNS):
            found[""] += await at_rate(request, most / 2, seconds)
            found["bare_"] += await at_rate(bare, most / 2, seconds)
    figures: dict[str, Any] = {"latency_half_rate": round(most / 2)}
    for name, latencies in found.items():
        latencies.sort()
        figures |= {
            f"latency_{name}p{percent}_ms": round(quantile(latencies, percent / 100) * 1000, 2) for percent in (50, 99)
        }
    return figures


async def first_call(cluster: Cluster, key: str, seconds: float) -> dict[str, Any]:
    """Measure the time from the receipt of an event to the first call of its execution."""
    called: dict[str, int] = {}

    async def note(request: web.Request) -> web.Response:
        now_ns = time.time_ns()
        called[(await request.json())["id"]] = now_ns
        return web.json_response({})

    application = web.Application()
    application.router.add_post("/", note)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        await cluster.client.flows.apply([FLOW.replace("SERVER", f"http://127.0.0.1:{_port(runner)}/").encode()])
        await at_rate(signed(f"{cluster.http}/hook/bench.call", key), CALLS_A_SECOND, seconds)
        executions = await ended(cluster.client, "bench.call", within=MAX_SECONDS)
    finally:
        await runner.cleanup()
    # the first ones open connections; receive_time_ms is cut to whole ms, by half of one on average
    waits = sorted(
        called[each.id] / 1_000_000 - each.receive_time_ms - 0.5 for each in executions[: -int(CALLS_A_SECOND)]
    )
    return {f"first_call_p{percent}_ms": round(quantile(waits, percent / 100), 1) for percent in (50, 99)}


def _port(runner: web.AppRunner) -> int:
    return int(runner.addresses[0][1])


async def at_rest(cluster: Cluster, seconds: float) -> dict[str, Any]:
    """Measure memory and CPU time of all processes of a cluster for `seconds`."""
    kinds = processes(cluster.data_dir) | {cluster.supervisor.pid: "supervisor"}
    for child in psutil.Process(cluster.supervisor.pid).children():
        kinds.setdefault(child.pid, "fork server")
    before = cpu_time(kinds)
    await asyncio.sleep(seconds)
    used = cpu_time(kinds)
    used.subtract(before)
    memory = dict.fromkeys(kinds.values(), 0.0)
    for pid, kind in kinds.items():
        memory[kind] += psutil.Process(pid).memory_full_info().pss / 2**20
    return {
        "rest_pss_mib": round(sum(memory.values())),
        "rest_pss_mib_by_process": {kind: round(value) for kind, value in sorted(memory.items())},
        "rest_cpu_percent": round(used.total() / seconds / 10_000, 2),
        "rest_cpu_percent_by_process": {
            kind: round(value / seconds / 10_000, 2) for kind, value in sorted(used.items())
        },
    }


async def bench(seconds: float, rest_seconds: float) -> dict[str, Any]:
    """Measure all of it, in two clusters."""
    figures: dict[str, Any] = {}
    if rest_seconds:
        async with running_cluster() as cluster:
            await asyncio.sleep(REST_AFTER)
            figures |= await at_rest(cluster, rest_seconds)
            log(f"at rest: {figures}")
    if seconds:
        async with running_cluster("--allow-private-addresses") as cluster:
            key = secrets.token_hex(16)
            await cluster.client.secrets.set("bench", key.encode())
            figures |= await first_call(cluster, key, seconds)
            figures |= await acceptance(cluster, key, seconds)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement of latency; 0: none")
    parser.add_argument("--rest", type=float, default=60.0, help="seconds at rest; 0: not measured")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(bench(options.seconds, options.rest)), indent=2))


if __name__ == "__main__":
    main()
