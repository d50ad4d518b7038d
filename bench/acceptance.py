"""Measures durable acceptance and whole executions, relative to a bare Tornado handler in the same run."""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Sequence
from typing import Any, Final

from bench.bare_handler import bare_handler
from bench.events import ended, payload
from bench.load import CONNECTIONS, Request, at_rate, generator, saturate
from bench.log import log
from bench.requests import apply_flow, quantile, signed
from flowhook.model import Execution
from harness.cluster import running_cluster

WARM_UP: Final = 1.0
"""Seconds of load before the first measurement."""
MAX_SECONDS: Final = 120.0
"""Limit in seconds for the executions of one measurement."""


async def bench(seconds: float) -> dict[str, Any]:
    """Measure for `seconds` each time, and return the figures.

    Raises:
        RuntimeError: a request was not answered with 2xx, or an execution did not complete.
    """
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
        await ended(client, running, within=MAX_SECONDS)

        bare_rates, accept_rates = [], []
        for _ in range(3):
            bare_rates.append(await rate("bare handler", bare_request, seconds))
            accept_rates.append(await rate("durable acceptance, flow paused", accept_request, seconds))
        accept_rps = statistics.median(accept_rates)

        e2e_rates = []
        for number in range(2):
            flow_id = await apply_flow(client, f"run-{number}")
            request = signed(f"{cluster.http}/hook/{flow_id}", key)
            await rate("acceptance while executing", request, seconds)
            e2e_rates.append(execution_rate(await ended(client, flow_id, within=MAX_SECONDS)))
            log(f"whole executions: {e2e_rates[-1]:,.0f}/s")
            bare_rates.append(await rate("bare handler", bare_request, seconds))

        latencies = await at_rate(run_request, accept_rps / 10, seconds)
        log(f"acceptance at {accept_rps / 10:,.0f}/s: p99 {quantile(latencies, 0.99) * 1000:.1f} ms")
        await ended(client, running, within=MAX_SECONDS)
    return _figures(bare_rates, accept_rates, e2e_rates, latencies)


async def rate(what: str, request: Request, seconds: float) -> float:
    """Return the requests a second at saturation.

    Raises:
        RuntimeError: one was not answered with 2xx.
    """
    result = await saturate(request, seconds)
    if result.failed or not result.requests:
        raise RuntimeError(f"{what}: {result.failed} of {result.requests} requests were not answered with 2xx")
    log(f"{what}: {result.per_second:,.0f}/s")
    return result.per_second


def execution_rate(executions: Sequence[Execution]) -> float:
    """Return the executions a second, from the first event received to the last execution ended."""
    first = min(execution.receive_time_ms for execution in executions)
    last = max(execution.end_time_ms or 0 for execution in executions)
    return len(executions) * 1000 / (last - first)


def _figures(bare: list[float], accept: list[float], e2e: list[float], latencies: list[float]) -> dict[str, Any]:
    bare_rps, accept_rps, e2e_rps = statistics.median(bare), statistics.median(accept), statistics.median(e2e)
    return {
        "bare_rps": round(bare_rps),
        "accept_rps": round(accept_rps),
        "accept_ratio": round(accept_rps / bare_rps, 3),
        "e2e_rps": round(e2e_rps),
        "e2e_ratio": round(e2e_rps / bare_rps, 3),
        "accept_p50_ms": round(quantile(latencies, 0.50) * 1000, 2),
        "accept_p99_ms": round(quantile(latencies, 0.99) * 1000, 2),
        "latency_rate": round(accept_rps / 10),
        "generator": generator(),
        "connections": CONNECTIONS,
        "body_bytes": len(payload()),
        "bare_rates": [round(rate) for rate in bare],
        "accept_rates": [round(rate) for rate in accept],
        "e2e_rates": [round(rate) for rate in e2e],
    }
