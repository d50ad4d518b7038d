"""`make bench`: what durable acceptance and whole executions cost, against a bare Tornado handler in the same run.

Figures of one machine say little; ratios within one run are what to compare. Writes bench/latest.json.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import platform
import secrets
import statistics
import sys
from pathlib import Path
from typing import Any, Final

from bench.cluster import Cluster, bare_handler, running_cluster
from bench.load import CONNECTIONS, Request, at_rate, generator, saturate
from flowhook.client import AsyncClient
from flowhook.model import Status

FOLDER: Final = Path(__file__).parent
WARM_UP: Final = 1.0
"""Seconds of load before anything is measured."""
POLL: Final = 0.2
"""Seconds between two looks at whether all executions have ended."""
PADDING: Final = "x" * 800


def payload() -> bytes:
    """Return a JSON body of about 1 KB."""
    event = {
        "action": "opened",
        "number": 42,
        "repository": {"full_name": "octo/hello", "private": False},
        "sender": {"login": "octocat", "id": 1},
        "pad": PADDING,
    }
    return json.dumps(event).encode()


def signed(url: str, key: str) -> Request:
    """Return a request with its HMAC."""
    body = payload()
    signature = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return Request(url, {"Content-Type": "application/json", "X-Signature": f"sha256={signature}"}, body)


async def apply_flow(client: AsyncClient, name: str) -> str:
    """Apply the benchmark's flow under a name and return its ID."""
    document = (FOLDER / "flow.yaml").read_text().replace("NAME", name)
    await client.flows.apply([document.encode()])
    return f"bench.{name}"


async def wait_until_ended(client: AsyncClient, flow_id: str) -> tuple[int, float]:
    """Wait for the executions of a flow; return how many there were and from first reception to last end in seconds.

    Raises:
        RuntimeError: one of them did not complete.
    """
    unfinished = (Status.PENDING, Status.RUNNING)
    while [execution async for execution in client.executions.list(flow_id=flow_id, statuses=unfinished, limit=1)]:
        await asyncio.sleep(POLL)
    executions = [execution async for execution in client.executions.list(flow_id=flow_id)]
    broken = [execution for execution in executions if execution.status is not Status.COMPLETED]
    if broken:
        raise RuntimeError(f"{len(broken)} executions did not complete, for example {broken[0]}")
    first = min(execution.receive_time_ms for execution in executions)
    last = max(execution.end_time_ms or 0 for execution in executions)
    return len(executions), (last - first) / 1000


async def bench(seconds: float) -> dict[str, Any]:
    """Run everything and return the figures."""
    key = secrets.token_hex(16)
    async with running_cluster() as cluster, bare_handler() as bare:
        client = cluster.client
        await client.secrets.set("bench", key.encode())
        accepting, running = await apply_flow(client, "accept"), await apply_flow(client, "run")
        await client.flows.pause(accepting)
        bare_request = Request(f"{bare}/hook/bench", {"Content-Type": "application/json"}, payload())
        accept_request = signed(f"{cluster.http}/hook/{accepting}", key)
        run_request = signed(f"{cluster.http}/hook/{running}", key)
        for request in (bare_request, accept_request, run_request):
            await saturate(request, WARM_UP)
        await wait_until_ended(client, running)

        bare_rates, accept_rates = [], []
        for _ in range(3):
            bare_rates.append(await _rate("bare handler", bare_request, seconds))
            accept_rates.append(await _rate("durable acceptance, flow paused", accept_request, seconds))
        accept_rps = statistics.median(accept_rates)

        e2e_rates = []
        for number in range(2):
            flow_id = await apply_flow(client, f"run-{number}")
            request = signed(f"{cluster.http}/hook/{flow_id}", key)
            await _rate("acceptance while executing", request, seconds)
            count, took = await wait_until_ended(client, flow_id)
            e2e_rates.append(count / took)
            _say(f"whole executions: {e2e_rates[-1]:,.0f}/s")
            bare_rates.append(await _rate("bare handler", bare_request, seconds))

        latencies = await at_rate(run_request, accept_rps / 10, seconds)
        _say(f"acceptance at {accept_rps / 10:,.0f}/s: p99 {_quantile(latencies, 0.99) * 1000:.1f} ms")
        await wait_until_ended(client, running)
        return _figures(bare_rates, accept_rates, e2e_rates, latencies, cluster)


async def _rate(what: str, request: Request, seconds: float) -> float:
    result = await saturate(request, seconds)
    if result.failed:
        raise RuntimeError(f"{what}: {result.failed} of {result.requests} requests were not answered with 2xx")
    _say(f"{what}: {result.per_second:,.0f}/s")
    return result.per_second


def _figures(
    bare: list[float], accept: list[float], e2e: list[float], latencies: list[float], cluster: Cluster
) -> dict[str, Any]:
    del cluster
    bare_rps, accept_rps, e2e_rps = statistics.median(bare), statistics.median(accept), statistics.median(e2e)
    return {
        "bare_rps": round(bare_rps),
        "accept_rps": round(accept_rps),
        "accept_ratio": round(accept_rps / bare_rps, 3),
        "e2e_rps": round(e2e_rps),
        "e2e_ratio": round(e2e_rps / bare_rps, 3),
        "accept_p50_ms": round(_quantile(latencies, 0.50) * 1000, 2),
        "accept_p99_ms": round(_quantile(latencies, 0.99) * 1000, 2),
        "latency_rate": round(accept_rps / 10),
        "generator": generator(),
        "connections": CONNECTIONS,
        "body_bytes": len(payload()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "bare_rates": [round(rate) for rate in bare],
        "accept_rates": [round(rate) for rate in accept],
        "e2e_rates": [round(rate) for rate in e2e],
    }


def _quantile(ascending: list[float], fraction: float) -> float:
    return ascending[min(len(ascending) - 1, int(len(ascending) * fraction))]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _table(figures: dict[str, Any]) -> str:
    rows = [
        ("bare Tornado handler that answers 202", f"{figures['bare_rps']:,}/s", "1.00"),
        ("durable acceptance, HMAC, flow paused", f"{figures['accept_rps']:,}/s", f"{figures['accept_ratio']:.2f}"),
        ("whole executions of four tasks", f"{figures['e2e_rps']:,}/s", f"{figures['e2e_ratio']:.2f}"),
        (f"acceptance p50 at {figures['latency_rate']:,}/s, executing", f"{figures['accept_p50_ms']} ms", ""),
        (f"acceptance p99 at {figures['latency_rate']:,}/s, executing", f"{figures['accept_p99_ms']} ms", ""),
    ]
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:<{width}}  {value:>12}  {ratio:>6}" for name, value, ratio in (("", "", "ratio"), *rows))


def main() -> None:
    """Measure, print the table, write bench/latest.json."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    figures = asyncio.run(bench(parser.parse_args().seconds))
    (FOLDER / "latest.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(_table(figures))


if __name__ == "__main__":
    main()
