"""Measures the replicated log beside the embedded storage: each cluster in its turn, in rounds.

| cluster | NATS servers | routers |
|---|---|---|
| embedded | none | 1 |
| r1 | 1 | 1 |
| r3 | 3 | 1 |
| r3_standby | 3 | 2: one serves, one follows |

All clusters run during the whole measurement, on the same cores, and only one of them has work.
"""

from __future__ import annotations

import secrets
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.acceptance import execution_rate, saturated
from bench.events import ended
from bench.load import at_rate, saturate
from bench.log import log
from bench.requests import apply_flow, quantile, signed
from harness.cluster import Cluster, running_cluster
from harness.log_servers import running_log_servers

WARM_UP: Final = 1.0
"""Seconds of load on each cluster before the first measurement."""
MAX_SECONDS: Final = 120.0
"""Limit in seconds for the executions of one measurement."""
EMBEDDED: Final = "embedded"
ROUTERS: Final = {EMBEDDED: 1, "r1": 1, "r3": 1, "r3_standby": 2}
"""Routers of each cluster."""


@dataclass(slots=True)
class System:
    """A cluster, and what was measured of it.

    Attributes:
        name: one of `ROUTERS`.
        cluster: runs.
        key: of its signed events.
        accept_rates: requests a second while the flow is paused, by round.
        e2e_rates: whole executions a second, by round.
        latencies: of acceptance at a fixed rate (s, ascending).
    """

    name: str
    cluster: Cluster
    key: str
    accept_rates: list[float] = field(default_factory=list)
    e2e_rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)


@asynccontextmanager
async def running_system(name: str, *options: str) -> AsyncIterator[Cluster]:
    """Run one of the clusters of `ROUTERS`, with further options of `flowhook up`."""
    with TemporaryDirectory(prefix="flowhook-") as folder:
        environment = {}
        async with AsyncExitStack() as stack:
            if name != EMBEDDED:
                servers = await stack.enter_async_context(running_log_servers(Path(folder, "nats"), alone=name == "r1"))
                options += ("--routers", str(ROUTERS[name]))
                environment["FLOWHOOK_STORAGE"] = servers.url(servers.ports())
            data_dir = Path(folder, "data")
            yield await stack.enter_async_context(running_cluster(*options, data_dir=data_dir, environment=environment))


async def bench(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure each cluster `rounds` times for `seconds`, in turns, and return the figures.

    Raises:
        RuntimeError: a request was not answered with 2xx, or an execution did not complete.
    """
    async with AsyncExitStack() as stack:
        systems = [
            System(name, await stack.enter_async_context(running_system(name)), secrets.token_hex(16))
            for name in ROUTERS
        ]
        for system in systems:
            await _prepare(system)
        for number in range(rounds):
            for system in systems:
                await _measure(system, number, seconds)
        steady = statistics.median(systems[0].accept_rates) / 10
        for system in systems:
            request = signed(f"{system.cluster.http}/hook/bench.run", system.key)
            system.latencies = await at_rate(request, steady, seconds)
            log(f"{system.name}: acceptance at {steady:,.0f}/s: p99 {quantile(system.latencies, 0.99) * 1000:.1f} ms")
            await ended(system.cluster.client, "bench.run", within=MAX_SECONDS)
    return _figures(systems, steady)


async def _prepare(system: System) -> None:
    client = system.cluster.client
    await client.secrets.set("bench", system.key.encode())
    accepting, running = await apply_flow(client, "accept"), await apply_flow(client, "run")
    await client.flows.pause(accepting)
    for flow_id in (accepting, running):
        await saturate(signed(f"{system.cluster.http}/hook/{flow_id}", system.key), WARM_UP)
    await ended(client, running, within=MAX_SECONDS)


async def _measure(system: System, number: int, seconds: float) -> None:
    url = f"{system.cluster.http}/hook"
    accepting = signed(f"{url}/bench.accept", system.key)
    accepted = await saturated(f"{system.name}: durable acceptance, flow paused", accepting, seconds)
    system.accept_rates.append(accepted.per_second)
    flow_id = await apply_flow(system.cluster.client, f"run-{number}")
    await saturated(f"{system.name}: acceptance while executing", signed(f"{url}/{flow_id}", system.key), seconds)
    system.e2e_rates.append(execution_rate(await ended(system.cluster.client, flow_id, within=MAX_SECONDS)))
    log(f"{system.name}: whole executions: {system.e2e_rates[-1]:,.0f}/s")


def _figures(systems: list[System], steady: float) -> dict[str, Any]:
    figures: dict[str, Any] = {"replicated_latency_rate": round(steady)}
    embedded = systems[0]
    for system in systems:
        name = f"replicated_{system.name}"
        figures |= {
            f"{name}_accept_rps": round(statistics.median(system.accept_rates)),
            f"{name}_accept_ratio": _ratio(system.accept_rates, embedded.accept_rates),
            f"{name}_e2e_rps": round(statistics.median(system.e2e_rates)),
            f"{name}_e2e_ratio": _ratio(system.e2e_rates, embedded.e2e_rates),
            f"{name}_p50_ms": round(quantile(system.latencies, 0.50) * 1000, 2),
            f"{name}_p99_ms": round(quantile(system.latencies, 0.99) * 1000, 2),
            f"{name}_accept_rates": [round(each) for each in system.accept_rates],
            f"{name}_e2e_rates": [round(each) for each in system.e2e_rates],
        }
    return figures


def _ratio(rates: list[float], others: list[float]) -> float:
    """Return the median of the rounds' ratios: what slows the machine down in a round, slows both."""
    return round(statistics.median(rate / other for rate, other in zip(rates, others, strict=True)), 3)
