"""Measures durable acceptance and whole executions beside a bare Tornado handler: CPU time an event, rate, latency."""

from __future__ import annotations

import secrets
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.bare_handler import bare_handler
from bench.cpu import cpu_time, parts_of, processes
from bench.events import ended, payload, until_ended
from bench.load import CONNECTIONS, Request, Saturation, at_rate, generator, saturate
from bench.log import log
from bench.requests import apply_flow, quantile, signed
from flowhook.model import Execution
from harness.cluster import Cluster, running_cluster

WARM_UP: Final = 1.0
"""Seconds of load before the first measurement."""
MAX_SECONDS: Final = 120.0
"""Limit in seconds for the executions of one measurement."""


@dataclass(slots=True)
class Measured:
    """What was measured of one load, a value for each round.

    Attributes:
        cpu: time of an event (µs) by kind of process and thread.
        rates: events a second.
        parts: shares of a process' time by part, from two runs that are sampled.
    """

    cpu: list[Counter[str]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    parts: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Median of the rates."""
        return statistics.median(self.rates)

    @property
    def total(self) -> float:
        """Median of the CPU time of an event in all processes (µs)."""
        return statistics.median(round_.total() for round_ in self.cpu)

    def by_process(self) -> dict[str, float]:
        """Return medians (µs) by kind of process and thread."""
        return {kind: statistics.median(each[kind] for each in self.cpu) for kind in sorted(self.cpu[0])}

    def by_part(self) -> dict[str, dict[str, float]]:
        """Return the time of an event (µs) by kind of process and part; empty without samplers."""
        kinds: Counter[str] = Counter()
        for kind, time_used in self.by_process().items():
            kinds[kind.partition(",")[0]] += time_used  # type: ignore[assignment]  # µs
        return {
            kind: {part: round(kinds[kind] * share, 1) for part, share in shares.most_common()}
            for kind, shares in self.parts.items()
        }


@dataclass(slots=True)
class System:
    """A cluster under load, with the flow `bench.accept`, which is paused, and flows that run.

    Attributes:
        cluster: runs.
        name: begins the lines of the log; empty: there is one cluster.
        key: of its signed events.
        accepted: what was measured while the flow was paused.
        executed: what was measured of whole executions.
        runs: number of flows that ran.
    """

    cluster: Cluster
    name: str = ""
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    accepted: Measured = field(default_factory=Measured)
    executed: Measured = field(default_factory=Measured)
    runs: int = 0

    async def prepare(self) -> None:
        """Apply the flows and warm up."""
        await self.cluster.client.secrets.set("bench", self.key.encode())
        await self.cluster.client.flows.pause(await apply_flow(self.cluster.client, "accept"))
        await saturate(self.request("bench.accept"), WARM_UP)
        await self.execute(Measured(), WARM_UP)

    def request(self, flow_id: str) -> Request:
        """Return a signed request to a flow."""
        return signed(f"{self.cluster.http}/hook/{flow_id}", self.key)

    async def accept(self, measured: Measured, seconds: float, connections: int = CONNECTIONS) -> None:
        """Have events accepted at saturation, and add what was measured."""
        kinds = processes(self.cluster.data_dir)
        before = cpu_time(kinds)
        what, request = f"{self.name}durable acceptance, {connections} senders", self.request("bench.accept")
        accepted = await saturated(what, request, seconds, connections)
        _add(measured, before, cpu_time(kinds), accepted.requests, accepted.per_second)

    async def execute(self, measured: Measured, seconds: float) -> None:
        """Have events accepted at saturation, wait until all are executed, and add what was measured."""
        self.runs += 1
        flow_id = await apply_flow(self.cluster.client, f"run-{self.runs}")
        kinds = processes(self.cluster.data_dir)
        before = cpu_time(kinds)
        await saturated(f"{self.name}acceptance while executing", self.request(flow_id), seconds)
        await until_ended(self.cluster.client, flow_id, within=MAX_SECONDS)
        after = cpu_time(kinds)  # before they are listed, which takes as much time as their end
        executions = await ended(self.cluster.client, flow_id, within=MAX_SECONDS)
        _add(measured, before, after, len(executions), execution_rate(executions))
        log(f"{self.name}whole executions: {measured.rates[-1]:,.0f}/s, {measured.cpu[-1].total():.0f} µs")

    async def latencies(self, per_second: float, seconds: float) -> list[float]:
        """Return the latencies of acceptance at a fixed rate, in seconds, ascending, while events are executed."""
        flow_id = f"bench.run-{self.runs}"
        latencies = await at_rate(self.request(flow_id), per_second, seconds)
        log(f"{self.name}acceptance at {per_second:,.0f}/s: p99 {quantile(latencies, 0.99) * 1000:.1f} ms")
        await ended(self.cluster.client, flow_id, within=MAX_SECONDS)
        return latencies


async def bench(rounds: int, seconds: float, *, against: Path | None = None) -> dict[str, Any]:
    """Measure in turns, `rounds` times for `seconds` each, and return the figures.

    Args:
        rounds: of turns.
        seconds: of each load.
        against: a checkout of another version, whose `.venv` is set up, to compare with.

    Raises:
        RuntimeError: a request was not answered with 2xx, or an execution did not complete.
    """
    async with AsyncExitStack() as stack:
        pythons = {"": sys.executable} | ({"other version: ": str(against / ".venv/bin/python")} if against else {})
        systems = [
            System(await stack.enter_async_context(running_cluster(python=python)), name)
            for name, python in pythons.items()
        ]
        handler = await stack.enter_async_context(bare_handler())
        bare, bare_request = Measured(), Request(handler.url, {"Content-Type": "application/json"}, payload())
        await saturate(bare_request, WARM_UP)
        for system in systems:
            await system.prepare()
        for number in range(rounds):
            before = cpu_time({handler.pid: "bare handler"})
            answered = await saturated("bare handler", bare_request, seconds)
            after = cpu_time({handler.pid: "bare handler"})
            _add(bare, before, after, answered.requests, answered.per_second)
            for system in systems[:: 1 if number % 2 else -1]:
                await system.accept(system.accepted, seconds)
                await system.execute(system.executed, seconds)
        current = systems[0]
        steady = current.accepted.rate / 10
        latencies = await current.latencies(steady, seconds)
        for measured, load in ((current.accepted, current.accept), (current.executed, current.execute)):
            measured.parts = await parts_of(processes(current.cluster.data_dir), partial(load, Measured(), seconds))
    return _figures(bare, systems, latencies, steady)


async def saturated(what: str, request: Request, seconds: float, connections: int = CONNECTIONS) -> Saturation:
    """Send requests at saturation.

    Raises:
        RuntimeError: one was not answered with 2xx.
    """
    result = await saturate(request, seconds, connections)
    if result.failed or not result.requests:
        raise RuntimeError(f"{what}: {result.failed} of {result.requests} requests were not answered with 2xx")
    log(f"{what}: {result.per_second:,.0f}/s")
    return result


def execution_rate(executions: Sequence[Execution]) -> float:
    """Return the executions a second, from the first event received to the last execution ended."""
    first = min(execution.receive_time_ms for execution in executions)
    last = max(execution.end_time_ms or 0 for execution in executions)
    return len(executions) * 1000 / (last - first)


def _add(measured: Measured, before: Counter[str], after: Counter[str], events: int, rate: float) -> None:
    measured.cpu.append(Counter({kind: (time_used - before[kind]) / events for kind, time_used in after.items()}))
    measured.rates.append(rate)


def _figures(bare: Measured, systems: list[System], latencies: list[float], latency_rate: float) -> dict[str, Any]:
    current, *others = systems
    figures: dict[str, Any] = {
        "bare_us": round(bare.total, 1),
        "bare_rps": round(bare.rate),
        "accept_p50_ms": round(quantile(latencies, 0.50) * 1000, 2),
        "accept_p99_ms": round(quantile(latencies, 0.99) * 1000, 2),
        "latency_rate": round(latency_rate),
        "generator": generator(),
        "connections": CONNECTIONS,
        "body_bytes": len(payload()),
    }
    for name, measured in (("accept", current.accepted), ("e2e", current.executed)):
        figures |= {
            f"{name}_us": round(measured.total, 1),
            f"{name}_cost": round(statistics.median(_ratios(measured, bare)), 3),
            f"{name}_us_by_process": {kind: round(value, 1) for kind, value in measured.by_process().items()},
            f"{name}_us_by_part": measured.by_part(),
            f"{name}_rps": round(measured.rate),
            f"{name}_ratio": round(measured.rate / bare.rate, 3),
        }
    for other in others:
        figures |= {
            "accept_us_against": round(other.accepted.total, 1),
            "e2e_us_against": round(other.executed.total, 1),
            "accept_us_ratio": round(statistics.median(_ratios(current.accepted, other.accepted)), 3),
            "e2e_us_ratio": round(statistics.median(_ratios(current.executed, other.executed)), 3),
        }
    return figures


def _ratios(measured: Measured, other: Measured) -> list[float]:
    """Return the rounds' ratios of CPU time: what slows the machine down in a round, slows both."""
    return [one.total() / two.total() for one, two in zip(measured.cpu, other.cpu, strict=True)]
