"""Durable acceptance through three HTTP servers, in one run: Tornado's own, the edge's, and that of another checkout.

`python -m bench.servers --previous DIR` measures five rounds, each server and the bare handler in turns, and prints the
medians: requests a second, their ratio to the bare handler's, and the CPU time of the edge for a request. The edges
share one router; `--previous` names a checkout of another version, with its stubs generated (`make codegen`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import psutil

from bench.bare_handler import bare_handler
from bench.events import payload
from bench.load import Request, saturate
from bench.log import log
from bench.requests import apply_flow, signed
from harness.cluster import READY_SECONDS, Cluster, running_cluster

WARM_UP: Final = 1.0
"""Seconds of load before anything is measured."""

EDGE: Final = ("-m", "cli", "edge")
STOCK: Final = ("-m", "bench.stock_edge")


@asynccontextmanager
async def running_edge(cluster: Cluster, command: tuple[str, ...], folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Run an edge of a cluster from a checkout; give its URL and its process ID.

    Raises:
        RuntimeError: it did not get ready.
    """
    own_python = folder / ".venv/bin/python"
    process = await asyncio.create_subprocess_exec(
        str(own_python) if own_python.exists() else sys.executable, *command, cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={
            **os.environ,
            "FLOWHOOK_DATA_DIR": str(cluster.data_dir),
            "FLOWHOOK_ROUTER": cluster.grpc,
            "FLOWHOOK_HTTP_PORT": "0",
            "FLOWHOOK_LOG_FORMAT": "json",
            "FLOWHOOK_PROCESS_NAME": f"edge-{folder.name}-{command[-1]}",
        },
    )  # fmt: skip
    reading = None
    try:
        async with asyncio.timeout(READY_SECONDS):
            url = await _ready(process)
        reading = asyncio.create_task(process.communicate())
        yield url, process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await (reading or process.communicate())


async def _ready(process: asyncio.subprocess.Process) -> str:
    output = []
    async for line in process.stdout or ():
        output.append(line.decode(errors="replace"))
        if b'"ready"' in line:
            return f"http://{json.loads(line)['http'].rpartition('//')[2]}"
    raise RuntimeError("an edge did not get ready:\n" + "".join(output))


async def measure(seconds: float, rounds: int, previous: Path | None) -> None:
    """Measure all servers, and print the medians."""
    key = secrets.token_hex(16)
    here = Path(__file__).parents[1]
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(running_cluster("--edges", "1"))
        bare = await stack.enter_async_context(bare_handler())
        await cluster.client.secrets.set("bench", key.encode())
        flow = await apply_flow(cluster.client, "accept")
        await cluster.client.flows.pause(flow)
        edges = {"(a) Tornado's HTTPServer": (STOCK, here), "(b) httptools": (EDGE, here)}
        if previous is not None:
            edges["(c) previous"] = (EDGE, previous)
        requests = {"bare handler": (Request(f"{bare}/hook/bench", {"Content-Type": "application/json"}, payload()), 0)}
        for name, (command, folder) in edges.items():
            url, pid = await stack.enter_async_context(running_edge(cluster, command, folder.absolute()))
            requests[name] = (signed(f"{url}/hook/{flow}", key), pid)
        for request, _ in requests.values():
            await saturate(request, WARM_UP)
        rates: dict[str, list[float]] = {name: [] for name in requests}
        costs: dict[str, list[float]] = {name: [] for name in requests}
        for number in range(rounds):
            for name, (request, pid) in requests.items():
                before = _cpu_seconds(pid)
                result = await saturate(request, seconds)
                if result.failed or not result.requests:
                    raise RuntimeError(f"{name}: {result.failed} of {result.requests} requests were not answered well")
                rates[name].append(result.per_second)
                costs[name].append((_cpu_seconds(pid) - before) / result.requests)
                log(f"round {number + 1}, {name}: {rates[name][-1]:,.0f}/s, {costs[name][-1] * 1e6:.1f} µs of CPU")
    bare_rate = statistics.median(rates["bare handler"])
    print(f"{'':30} {'per second':>12} {'ratio':>7} {'CPU µs':>8}")
    for name, values in rates.items():
        rate, cost = statistics.median(values), statistics.median(costs[name])
        print(f"{name:30} {rate:>12,.0f} {rate / bare_rate:>7.2f} {cost * 1e6:>8.1f}")


def _cpu_seconds(pid: int) -> float:
    if not pid:
        return 0.0
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.servers", description=__doc__)
    parser.add_argument("--previous", type=Path, help="checkout of the version to compare with")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    asyncio.run(measure(options.seconds, options.rounds, options.previous))
