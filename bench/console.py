"""Measures the console: its pages with many executions, flows and bytes, and what an open page costs the others.

Run: .venv/bin/python -m bench.console [--executions 100000] [--flows 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import secrets
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.acceptance import execution_rate, rate
from bench.events import UNFINISHED, ended, ingest
from bench.flows import register
from bench.load import saturate
from bench.log import log
from bench.requests import apply_flow, signed
from harness.cluster import Cluster, running_cluster

TRIES: Final = 5
"""How often each page is requested; its time is the median."""
BODY_BYTES: Final = 10 << 20
STREAMS: Final = 3
"""Live lists that are open while acceptance is measured."""
ROUNDS: Final = 5
WARM_UP: Final = 1.0
MAX_SECONDS: Final = 300.0
FAULTY: Final = b"""\
document: {dsl: 1.0.3, namespace: bench, name: faulty, version: 1.0.0}
webhook: {auth: none}
do:
  - fail: {raise: {error: {type: https://example.com/errors/refused, status: 422, title: refused}}}
"""


@asynccontextmanager
async def logged_in(cluster: Cluster, role: str = "admin") -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session of the console, as a browser does."""
    jar = aiohttp.CookieJar(unsafe=True)  # the host is an address
    async with aiohttp.ClientSession(cluster.admin, cookie_jar=jar) as session:
        async with session.post("/login", data={"token": cluster.token(role)}, allow_redirects=False) as response:
            if response.status != 303:
                raise RuntimeError(f"the login was answered with {response.status}")
        yield session


@asynccontextmanager
async def open_lists(cluster: Cluster, number: int, query: str = "") -> AsyncIterator[list[int]]:
    """Keep live lists of executions open, and receive what they send; yields the bytes received by each."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        received = [0] * number
        running = []
        for index in range(number):
            session = await stack.enter_async_context(logged_in(cluster, "view"))
            running.append(tasks.create_task(_receive(session, query, received, index)))
        yield received
        for task in running:
            task.cancel()


async def _receive(session: aiohttp.ClientSession, query: str, received: list[int], index: int) -> None:
    timeout = aiohttp.ClientTimeout(total=None)
    async with session.get(f"/executions/stream?{query}", timeout=timeout) as response:
        response.raise_for_status()
        async for chunk in response.content.iter_any():
            received[index] += len(chunk)


async def bench(executions: int, flows: int, seconds: float) -> dict[str, Any]:
    """Measure pages among `executions` and `flows`, then acceptance for `seconds` each time; return the figures."""
    with tempfile.TemporaryDirectory(prefix="flowhook-") as folder:
        data_dir = Path(folder, "data")
        data_dir.mkdir(mode=0o700)
        await register(data_dir / "flowhook.db", flows)
        async with running_cluster("--runners", "2", data_dir=data_dir) as cluster:
            pages = await _pages(cluster, executions)
            shown = await _measure_pages(cluster, pages)
            return {"console_executions": executions, "console_flows": flows, **shown, **await _live(cluster, seconds)}


async def _pages(cluster: Cluster, executions: int) -> dict[str, str]:
    """Produce the executions, and return the paths of the pages to measure, by name."""
    client = cluster.client
    await client.secrets.set("bench", secrets.token_bytes(16))
    flow_id = await apply_flow(client, "run")
    await client.flows.apply([FAULTY])
    for _ in range(executions // 10_000):  # in portions, so that the backlog stays short
        await ingest(cluster.grpc, cluster.token("edge"), flow_id, 9_000)
        await ingest(cluster.grpc, cluster.token("edge"), "bench.faulty", 1_000)
        await _settled(cluster)
    log(f"{executions:,} executions have ended")
    large = await client.ingest("bench.faulty", json.dumps(["x" * 1020] * (BODY_BYTES >> 10)))
    await _settled(cluster)
    newest = [each.id async for each in client.executions.list(flow_id=flow_id, limit=1)]
    faulted = [each.id async for each in client.executions.list(flow_id="bench.faulty", limit=2)]
    return {
        "flows": "/flows",
        "a flow": f"/flows/{flow_id}",
        "executions": "/executions",
        "executions of a flow": "/executions?flow=bench.faulty",
        "executions by status": "/executions?status=faulted",
        "executions of a rare status": "/executions?status=cancelled",
        "unresolved executions": "/executions?unresolved=true",
        "an execution": f"/executions/{newest[0]}",
        "an execution that faulted": f"/executions/{faulted[1]}",
        "an execution with a body of 10 MiB": f"/executions/{large}",
        "faults": "/faults",
        "rejections": "/rejections",
        "secrets": "/secrets",
        "cluster": "/cluster",
        "audit": "/audit",
    }


async def _settled(cluster: Cluster) -> None:
    """Wait until nothing is left to run."""
    while True:
        page = await cluster.client.executions.page(statuses=UNFINISHED, page_size=1)
        if not page.items:
            return
        await asyncio.sleep(0.2)


async def _measure_pages(cluster: Cluster, pages: dict[str, str]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    async with logged_in(cluster) as session:
        for name, path in pages.items():
            times = []
            for _ in range(TRIES):
                began = time.perf_counter()
                async with session.get(path) as response:
                    body = await response.read()
                    response.raise_for_status()
                times.append(time.perf_counter() - began)
            figures[name] = {
                "ms": round(statistics.median(times) * 1000, 1),
                "worst_ms": round(max(times) * 1000, 1),
                "gzip_kib": round(len(gzip.compress(body)) / 1024, 1),
            }
            log(f"{name}: {figures[name]}")
    return {"console_pages": figures, "console_paint_ms": await _first_paint(cluster, pages)}


async def _first_paint(cluster: Cluster, pages: dict[str, str]) -> dict[str, float] | None:
    """Return when Chromium first painted content of each page, in ms after the click; None: there is no Chromium."""
    import shutil  # noqa: PLC0415

    path = shutil.which("chromium")
    if path is None:
        return None
    from playwright.async_api import async_playwright  # noqa: PLC0415 - a development dependency

    painted: dict[str, float] = {}
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = await browser.new_page()
        await page.goto(f"{cluster.admin}/login")
        await page.get_by_label("Token").fill(cluster.token("view"))
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_url("**/flows")
        for name, path in pages.items():
            await page.goto(f"{cluster.admin}{path}")
            painted[name] = round(await page.evaluate(PAINT), 1)
        await browser.close()
    log(f"first paint: {painted}")
    return painted


PAINT: Final = """() => new Promise(resolve => new PerformanceObserver(list => {
    const [paint] = list.getEntriesByName('first-contentful-paint');
    if (paint) resolve(paint.startTime);
}).observe({type: 'paint', buffered: true}))"""


async def _live(cluster: Cluster, seconds: float) -> dict[str, Any]:
    """Measure acceptance and executions with and without open lists, in turns."""
    client = cluster.client
    key = secrets.token_hex(16)
    await client.secrets.set("bench", key.encode())
    accepting = await apply_flow(client, "accept")
    await client.flows.pause(accepting)
    request = signed(f"{cluster.http}/hook/{accepting}", key)
    await saturate(request, WARM_UP)
    rates: dict[str, list[float]] = {"alone": [], "watched": [], "alone_e2e": [], "watched_e2e": []}
    for number in range(ROUNDS):
        for name, lists in (("alone", 0), ("watched", STREAMS)):
            async with open_lists(cluster, lists) as received:
                rates[name].append(await rate(f"acceptance, {lists} live lists", request, seconds))
                flow_id = await apply_flow(client, f"{name}-{number}")
                await rate("acceptance while executing", signed(f"{cluster.http}/hook/{flow_id}", key), seconds)
                rates[f"{name}_e2e"].append(execution_rate(await ended(client, flow_id, within=MAX_SECONDS)))
            if not all(received):
                raise RuntimeError("a live list received nothing")
    return {
        "console_lists": STREAMS,
        "console_accept_ratio": _ratio(rates["watched"], rates["alone"]),
        "console_e2e_ratio": _ratio(rates["watched_e2e"], rates["alone_e2e"]),
        "console_rates": {name: [round(each) for each in values] for name, values in rates.items()},
    }


def _ratio(rates: list[float], others: list[float]) -> float:
    return round(statistics.median(rate / other for rate, other in zip(rates, others, strict=True)), 3)


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.console", description=__doc__)
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--flows", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(bench(options.executions, options.flows, options.seconds)), indent=2))


if __name__ == "__main__":
    main()
