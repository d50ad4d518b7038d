"""Measures the console: its pages with many executions, flows and bytes, and what an open page costs the others.

Run: .venv/bin/python -m bench.console [--executions 100000] [--flows 1000] [--data-dir DIR]
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

from bench import console_data
from bench.acceptance import execution_rate, saturated
from bench.console_pages import all_pages
from bench.events import ended
from bench.load import saturate
from bench.log import log
from bench.requests import apply_flow, signed
from harness.cluster import Cluster, running_cluster

TRIES: Final = 5
"""How often each page is requested; its time is the median."""
STREAMS: Final = 3
"""Live lists that are open while acceptance is measured."""
ROUNDS: Final = 5
WARM_UP: Final = 1.0
MAX_SECONDS: Final = 300.0
LIMITS: Final = {"console_slowest_ms": 1000, "console_largest_gzip_kib": 60, "console_slowest_paint_ms": 1000}
"""What the figures may be at most; else the exit code is 1."""


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


async def bench(executions: int, flows: int, seconds: float, data_dir: Path | None = None) -> dict[str, Any]:
    """Measure pages among `executions` and `flows`, then acceptance for `seconds` each time; return the figures.

    `data_dir` is used again if it exists, with what is in it.
    """
    with tempfile.TemporaryDirectory(prefix="flowhook-") as folder:
        used = data_dir or Path(folder, "data")
        filled = used.exists()
        if not filled:
            used.mkdir(mode=0o700)
            await console_data.prepare(used / "flowhook.db", flows, executions)
        async with running_cluster("--runners", "2", data_dir=used) as cluster:
            if not filled:
                await console_data.produce(cluster)
            shown = await _measure_pages(cluster, await all_pages(cluster.client))
            live = await _live(cluster, seconds) if seconds else {}
            return {"console_executions": executions, "console_flows": flows, **shown, **live}


async def _measure_pages(cluster: Cluster, pages: list[str]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    async with logged_in(cluster) as session:
        for path in pages:
            times, body = [], b""
            for _ in range(TRIES):
                began = time.perf_counter()
                async with session.get(path) as response:
                    body = await response.read()
                    if response.status not in (200, 409):  # 409: the page says why there can be no replay
                        raise RuntimeError(f"{path} was answered with {response.status}")
                times.append(time.perf_counter() - began)
            figures[path] = {
                "ms": round(statistics.median(times) * 1000, 1),
                "worst_ms": round(max(times) * 1000, 1),
                "gzip_kib": round(len(gzip.compress(body)) / 1024, 1),
            }
            log(f"{path}: {figures[path]}")
    painted = await _first_paint(cluster, pages)
    slowest = max(figures, key=lambda path: figures[path]["ms"])
    largest = max(figures, key=lambda path: figures[path]["gzip_kib"])
    return {
        "console_pages": figures,
        "console_slowest": slowest,
        "console_slowest_ms": figures[slowest]["ms"],
        "console_largest": largest,
        "console_largest_gzip_kib": figures[largest]["gzip_kib"],
        "console_paint_ms": painted,
        "console_slowest_paint_ms": max(painted.values()) if painted else None,
    }


async def _first_paint(cluster: Cluster, pages: list[str]) -> dict[str, float] | None:
    """Return when Chromium first painted content of each page, in ms after the click; None: there is no Chromium."""
    import shutil  # noqa: PLC0415

    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    from playwright.async_api import async_playwright  # noqa: PLC0415 - a development dependency

    painted: dict[str, float] = {}
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = await browser.new_page()
        await page.goto(f"{cluster.admin}/login")
        await page.get_by_label("Token").fill(cluster.token("view"))
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("heading", name="Overview").wait_for()
        for path in pages:
            await page.goto(f"{cluster.admin}{path}")
            painted[path] = round(await page.evaluate(PAINT), 1)
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
                accepted = await saturated(f"acceptance, {lists} live lists", request, seconds)
                rates[name].append(accepted.per_second)
                flow_id = await apply_flow(client, f"{name}-{number}")
                await saturated("acceptance while executing", signed(f"{cluster.http}/hook/{flow_id}", key), seconds)
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
    parser.add_argument("--seconds", type=float, default=4.0, help="for each measurement of acceptance; 0: none")
    parser.add_argument("--data-dir", type=Path, help="where the data is, or is to be left for the next run")
    options = parser.parse_args()
    figures = asyncio.run(bench(options.executions, options.flows, options.seconds, options.data_dir))
    print(json.dumps(figures, indent=2))
    exceeded = [name for name, most in LIMITS.items() if (figures[name] or 0) > most]
    if exceeded:
        raise SystemExit(f"over the limit: {', '.join(exceeded)}")


if __name__ == "__main__":
    main()
