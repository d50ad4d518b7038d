"""Measures a cluster on a busy machine, beside endless expressions, and after a crash of all processes.

It has five parts; each prints one JSON object. `--busy N` runs N endless loops beside the cluster.

- `poison`: `--events` endless expressions of as many flows at once, while a healthy flow gets 10 events a second.
- `flood`: ten endless expressions a second of one flow for `--seconds`, while a healthy flow gets 10 events a second.
- `recovery`: every process is killed with SIGKILL, the supervisor included, and started again, `--times` times: the
  time until the first event that was acknowledged before is executed again.
- `outage`: `--events` executions of three flows wait before calls to a server that is down, and follow when it is back:
  how long that takes, and the latencies of a healthy flow before, meanwhile, and then.
- `start`: from the command to `flowhook ready`, the CPU time that took, and the idle memory of all processes.

Run: .venv/bin/python -m bench.resilience poison --busy 2
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from bench.echo_server import echo_server
from bench.load import Request, at_rate
from bench.log import log
from bench.requests import quantile
from flowhook.model import Execution, Status
from harness.cluster import Cluster, running_cluster

RATE: Final = 10.0
"""Events/s of the healthy flow, and of the endless one in `flood`."""
WARM_UP_SECONDS: Final = 3.0
OUTAGE_SECONDS: Final = 15.0
SETTLE_SECONDS: Final = 5.0
"""How long the healthy flow continues after the last endless event has ended."""
WITHIN_SECONDS: Final = 300.0
"""Limit of every wait; the measurement fails after it."""
IDLE_SECONDS: Final = 5.0

ENDLESS: Final = "last(range(1e15))"
FLOW: Final = """
document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}
webhook: {{auth: none}}
do:
  - run: {{set: {{x: '${{ {program} }}'}}}}
"""
HELD: Final = """
document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}
webhook: {{auth: none}}
do:
  - ask: {{call: http, with: {{method: post, endpoint: '{url}', body: '${{ .body }}'}}}}
"""


@contextlib.contextmanager
def busy_loops(number: int) -> Any:
    """Run endless loops that compete for the processors."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _request(cluster: Cluster, flow_id: str) -> Request:
    return Request(f"{cluster.http}/hook/{flow_id}", {"Content-Type": "application/json"}, b'{"n": 1}')


async def poison(busy: int, events: int) -> dict[str, Any]:
    """Measure how long endless expressions take to end, and the latencies of a healthy flow."""
    async with running_cluster() as cluster:
        bad = [f"endless-{number}" for number in range(events)]
        await cluster.client.flows.apply(
            [FLOW.format(name="healthy", program=".body.n + 1").encode()]
            + [FLOW.format(name=name, program=ENDLESS).encode() for name in bad]
        )
        await at_rate(_request(cluster, "healthy"), RATE, WARM_UP_SECONDS)
        with busy_loops(busy):
            since_ms = time.time_ns() // 1_000_000
            stop = asyncio.Event()
            healthy = asyncio.create_task(_until(stop, _request(cluster, "healthy")))
            began = time.monotonic()
            ids = [await cluster.client.ingest(name, {}) for name in bad]
            ended = [await _ended(cluster, each) for each in ids]
            seconds = time.monotonic() - began
            await asyncio.sleep(SETTLE_SECONDS)
            stop.set()
            await healthy
            latencies = await _latencies(cluster, since_ms)
    return {
        "busy": busy,
        "poison_seconds": round(seconds, 1),
        "poison_statuses": sorted({str(each.status) for each in ended}),
        "poison_attempts": [each.attempts for each in ended],
        **_summary(latencies),
    }


async def flood(busy: int, seconds: float) -> dict[str, Any]:
    """Measure the latencies of a healthy flow beside ten endless expressions a second."""
    async with running_cluster() as cluster:
        await cluster.client.flows.apply(
            [
                FLOW.format(name="healthy", program=".body.n + 1").encode(),
                FLOW.format(name="endless", program=ENDLESS).encode(),
            ]
        )
        await at_rate(_request(cluster, "healthy"), RATE, WARM_UP_SECONDS)
        with busy_loops(busy):
            since_ms = time.time_ns() // 1_000_000
            await asyncio.gather(
                at_rate(_request(cluster, "endless"), RATE, seconds),
                at_rate(_request(cluster, "healthy"), RATE, seconds),
            )
            latencies = await _latencies(cluster, since_ms)
        faulted = [each async for each in cluster.client.executions.list(flow_id="endless", statuses=[Status.FAULTED])]
    return {
        "busy": busy,
        "flood_seconds": seconds,
        "flood_faulted": len(faulted),
        "flood_max_attempts": max((each.attempts for each in faulted), default=0),
        **_summary(latencies),
    }


async def outage(busy: int, events: int) -> dict[str, Any]:
    """Measure what an outage of a server that others call costs a healthy flow, and how soon they have followed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    flows = ("a", "b", "c")
    found: dict[str, Any] = {"busy": busy, "outage_executions": events}
    async with running_cluster("--allow-private-addresses") as cluster:
        client, healthy = cluster.client, _request(cluster, "healthy")

        async def measured(name: str, during: Awaitable[None]) -> None:
            since_ms = time.time_ns() // 1_000_000
            stop = asyncio.Event()
            sending = asyncio.create_task(_until(stop, healthy))
            await during
            stop.set()
            await sending
            found[name] = _summary(await _latencies(cluster, since_ms))

        await client.flows.apply([HELD.format(name=each, url=f"http://127.0.0.1:{port}").encode() for each in flows])
        await client.flows.apply([FLOW.format(name="healthy", program=".body.n + 1").encode()])
        await at_rate(healthy, RATE, WARM_UP_SECONDS)
        with busy_loops(busy):
            await measured("before", asyncio.sleep(OUTAGE_SECONDS))
            for number in range(events):
                await client.ingest(flows[number % len(flows)], {"n": number})
            incident = await _all_wait(cluster, events - len(flows))
            await measured("down", asyncio.sleep(OUTAGE_SECONDS))
            async with echo_server(port):
                began = time.monotonic()
                await client.incidents.probe(incident)
                await measured("following", _none_left(cluster, flows))
                found["followed_s"] = round(time.monotonic() - began, 1)
    return found


async def _all_wait(cluster: Cluster, number: int) -> str:
    """Wait until so many executions wait for a destination; return the ID of the incident."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            incidents = [each async for each in cluster.client.incidents.list(open_only=True)]
            if incidents and incidents[0].waiting >= number:
                return incidents[0].id
            await asyncio.sleep(0.1)


async def _none_left(cluster: Cluster, flows: Sequence[str]) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        for flow_id in flows:
            while await _unended(cluster, flow_id):
                await asyncio.sleep(0.1)


async def _unended(cluster: Cluster, flow_id: str) -> int:
    [numbers] = (await cluster.client.flows.statistics(flow_id)).items
    return numbers.pending + numbers.running + numbers.waiting


async def _until(stop: asyncio.Event, request: Request) -> None:
    while not stop.is_set():
        await at_rate(request, RATE, 1.0)


async def _ended(cluster: Cluster, execution_id: str) -> Execution:
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            execution = (await cluster.client.executions.get(execution_id)).execution
            if execution.status.ended:
                return execution
            await asyncio.sleep(0.1)


async def _latencies(cluster: Cluster, since_ms: int) -> list[int]:
    """Return how long each execution of the healthy flow took from receipt to end, in ms, once all have ended."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while [
            each
            async for each in cluster.client.executions.list(
                flow_id="healthy", statuses=[Status.PENDING, Status.RUNNING], limit=1
            )
        ]:
            await asyncio.sleep(0.2)
    executions = [each async for each in cluster.client.executions.list(flow_id="healthy")]
    bad = [each for each in executions if each.status is not Status.COMPLETED]
    if bad:
        raise RuntimeError(f"{len(bad)} healthy executions did not complete, for example {bad[0]}")
    return [(each.end_time_ms or 0) - each.receive_time_ms for each in executions if each.receive_time_ms >= since_ms]


def _summary(latencies: Sequence[int]) -> dict[str, Any]:
    ascending = sorted(latencies)
    return {
        "healthy_events": len(ascending),
        "healthy_p50_ms": quantile(ascending, 0.5),
        "healthy_p99_ms": quantile(ascending, 0.99),
        "healthy_max_ms": ascending[-1],
    }


async def recovery(busy: int, times: int) -> dict[str, Any]:
    """Measure how long after a start an event is executed again whose processes were all killed."""
    seconds: list[float] = []
    with tempfile.TemporaryDirectory(prefix="flowhook-") as folder, busy_loops(busy):
        async with _counting_server() as (url, arrived):
            for _ in range(times):
                seconds.append(await _recover(Path(folder, "data"), url, arrived))
                log(f"recovery: {seconds[-1]:.1f} s")
    return {
        "busy": busy,
        "recovery_times": times,
        "recovery_median_s": round(statistics.median(seconds), 2),
        "recovery_max_s": round(max(seconds), 2),
    }


async def _recover(data_dir: Path, url: str, arrived: asyncio.Queue[str]) -> float:
    """Have a call under way, kill everything, start anew; return the seconds from there until the call comes again."""
    async with running_cluster("--allow-private-addresses", data_dir=data_dir) as cluster:
        await cluster.client.flows.apply([HELD.format(name="held", url=url).encode()])
        await cluster.client.ingest("held", {})
        key = await arrived.get()
        tree = psutil.Process(cluster.supervisor.pid).children(recursive=True)
        cluster.supervisor.kill()
        for process in tree:
            with contextlib.suppress(psutil.Error):
                process.kill()
        await cluster.supervisor.wait()
    began = time.monotonic()
    async with running_cluster("--allow-private-addresses", data_dir=data_dir) as cluster:
        async with asyncio.timeout(WITHIN_SECONDS):
            while await arrived.get() != key:
                pass
        took = time.monotonic() - began
        for execution in [each async for each in cluster.client.executions.list(flow_id="held")]:
            if not execution.status.ended:
                await cluster.client.executions.cancel(execution.id)
    return took


@asynccontextmanager
async def _counting_server() -> AsyncIterator[tuple[str, asyncio.Queue[str]]]:
    """Run a server that answers no request; yield its URL, and a queue of the idempotency keys it receives."""
    arrived: asyncio.Queue[str] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            arrived.put_nowait(next(line for line in head if line.lower().startswith("idempotency-key")))
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", arrived
    finally:
        server.close()


async def start(busy: int, times: int) -> dict[str, Any]:
    """Measure the start with the flows of `examples/`, and the memory of the idle cluster (Linux)."""
    seconds, cpu, memory = [], [], []
    with busy_loops(busy):
        for _ in range(times):
            began = time.monotonic()
            async with running_cluster("--flows", "examples") as cluster:
                seconds.append(time.monotonic() - began)
                processes = [psutil.Process(cluster.supervisor.pid)]
                processes += processes[0].children(recursive=True)
                cpu.append(sum(sum(process.cpu_times()[:4]) for process in processes))
                await asyncio.sleep(IDLE_SECONDS)
                processes += [each for each in processes[0].children(recursive=True) if each not in processes]
                alive = [process for process in processes if process.is_running()]
                memory.append([(_named(each), each.memory_full_info().pss >> 20) for each in alive])
    totals = [sum(pss for _, pss in each) for each in memory]
    return {
        "busy": busy,
        "start_median_s": round(statistics.median(seconds), 2),
        "start_cpu_s": round(statistics.median(cpu), 1),
        "idle_pss_mib": round(statistics.median(totals)),
        "idle_processes": memory[-1],
    }


def _named(process: psutil.Process) -> str:
    """Return the last two words of a command, which tell our processes apart."""
    return " ".join([word for word in process.cmdline() if word][-2:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.resilience", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["poison", "flood", "recovery", "outage", "start"])
    parser.add_argument("--busy", type=int, default=0, help="endless loops beside it")
    parser.add_argument("--events", type=int, default=4, help="of `poison` and `outage`")
    parser.add_argument("--seconds", type=float, default=60.0, help="of `flood`")
    parser.add_argument("--times", type=int, default=5, help="of `recovery` and `start`")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.chdir(Path(__file__).parent.parent)
    measures: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "poison": lambda: poison(options.busy, options.events),
        "flood": lambda: flood(options.busy, options.seconds),
        "recovery": lambda: recovery(options.busy, options.times),
        "outage": lambda: outage(options.busy, options.events),
        "start": lambda: start(options.busy, options.times),
    }

    async def measure() -> dict[str, Any]:
        return await measures[options.part]()

    print(json.dumps(asyncio.run(measure()), indent=2))


if __name__ == "__main__":
    main()
