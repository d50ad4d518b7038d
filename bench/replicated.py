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

import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.acceptance import Measured, System
from bench.load import CONNECTIONS
from bench.requests import quantile
from harness.cluster import Cluster, running_cluster
from harness.log_servers import running_log_servers

EMBEDDED: Final = "embedded"
ROUTERS: Final = {EMBEDDED: 1, "r1": 1, "r3": 1, "r3_standby": 2}
"""Routers of each cluster."""
SENDERS: Final = (8, CONNECTIONS, 256)
"""How many senders at a time: a commit waits for two disks more, which many senders share."""


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
        systems = {name: System(await stack.enter_async_context(running_system(name)), f"{name}: ") for name in ROUTERS}
        for system in systems.values():
            await system.prepare()
        by_senders = {(name, senders): Measured() for name in systems for senders in SENDERS}
        for _ in range(rounds):
            for name, system in systems.items():
                for senders in SENDERS:
                    await system.accept(by_senders[name, senders], seconds, senders)
                await system.execute(system.executed, seconds)
        for name, system in systems.items():
            system.accepted = by_senders[name, CONNECTIONS]
        embedded = systems[EMBEDDED]
        steady = embedded.accepted.rate / 10
        figures: dict[str, Any] = {"replicated_latency_rate": round(steady)}
        for key, system in systems.items():
            name = f"replicated_{key}"
            latencies = await system.latencies(steady, seconds)
            figures |= {
                f"{name}_accept_rps": round(system.accepted.rate),
                f"{name}_accept_ratio": _ratio(system.accepted.rates, embedded.accepted.rates),
                **{
                    f"{name}_accept_ratio_{n}": _ratio(by_senders[key, n].rates, by_senders[EMBEDDED, n].rates)
                    for n in SENDERS
                },
                f"{name}_e2e_rps": round(system.executed.rate),
                f"{name}_e2e_ratio": _ratio(system.executed.rates, embedded.executed.rates),
                f"{name}_p50_ms": round(quantile(latencies, 0.50) * 1000, 2),
                f"{name}_p99_ms": round(quantile(latencies, 0.99) * 1000, 2),
                f"{name}_accept_rates": [round(each) for each in system.accepted.rates],
                f"{name}_e2e_rates": [round(each) for each in system.executed.rates],
            }
    return figures


def _ratio(rates: list[float], others: list[float]) -> float:
    """Return the median of the rounds' ratios: what slows the machine down in a round, slows both."""
    return round(statistics.median(rate / other for rate, other in zip(rates, others, strict=True)), 3)
