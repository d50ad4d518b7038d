"""Measures many registered flows: the time of a lookup by the edge, and the memory of edge and router.

Run: .venv/bin/python -m bench.flows [--flows 100000]

They are written to the router's storage before it starts, because applying so many documents would take minutes. A
*miss* is the first request to a flow, for which the edge asks the router; a *hit* is the next one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench.log import log
from bench.requests import quantile
from flowhook.document.loader import canonical, parse
from harness.cluster import Cluster, running_cluster
from router.storage.registry import FlowDraft
from router.storage.storage import open_storage

AT_ONCE: Final = 500
"""Flows in one transaction."""

LOOKUPS: Final = 5_000
MIB: Final = 1 << 20
MARK: Final = "flow-name"
DOCUMENT: Final = (
    f"document: {{dsl: 1.0.3, namespace: default, name: {MARK}, version: 1.0.0}}\n"
    "webhook: {auth: {hmac: {secret: bench, header: X-Signature}}, respond: {status: 200, body: {id: '${ .id }'}}}\n"
    "do:\n  - keep: {set: {order: '${ .body.order }'}}\n"
).encode()


async def register(path: Path, count: int) -> None:
    """Write flows into a new database."""
    definition = canonical(parse(DOCUMENT).definition)
    storage = await open_storage(path)
    try:
        for start in range(0, count, AT_ONCE):
            names = [f"flow-{number}" for number in range(start, min(start + AT_ONCE, count))]
            drafts = [
                FlowDraft(
                    name,
                    DOCUMENT.replace(MARK.encode(), name.encode()),
                    definition.replace(MARK.encode(), name.encode()),
                    has_webhook=True,
                )
                for name in names
            ]
            await storage.registry.apply_flows(drafts, now_ms=time.time_ns() // 1_000_000)
    finally:
        await storage.close()


async def _look_up(cluster: Cluster, names: list[str]) -> list[float]:
    """Look flows up one after another over one connection; returns the times in seconds, ascending."""
    parts = urlsplit(cluster.http)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    times: list[float] = []
    for name in names:
        began = time.perf_counter()
        writer.write(f"HEAD /hook/{name} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        times.append(time.perf_counter() - began)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"{name}: {head[:100]!r}")
    writer.close()
    return sorted(times)


def memory(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


async def bench(count: int) -> dict[str, Any]:
    """Register `count` flows, look up some of them at random, and return the figures."""
    with tempfile.TemporaryDirectory(prefix="flowhook-") as folder:
        data_dir = Path(folder, "data")
        data_dir.mkdir(mode=0o700)
        await register(data_dir / "flowhook.db", count)
        log(f"{count:,} flows are registered")
        began = time.monotonic()
        async with running_cluster("--runners", "1", data_dir=data_dir) as cluster:
            ready = time.monotonic() - began
            names = [f"flow-{number}" for number in random.sample(range(count), min(count, LOOKUPS))]
            misses = await _look_up(cluster, names)
            hits = await _look_up(cluster, names)
            return {
                "flows": count,
                "flows_ready_seconds": round(ready, 1),
                "flows_miss_p50_ms": round(quantile(misses, 0.5) * 1000, 2),
                "flows_miss_p99_ms": round(quantile(misses, 0.99) * 1000, 2),
                "flows_hit_p50_ms": round(quantile(hits, 0.5) * 1000, 3),
                "flows_hit_p99_ms": round(quantile(hits, 0.99) * 1000, 3),
                "flows_asked_for": len(names),
                "flows_edge_mib": round(memory(cluster.pid("edge-1"))),
                "flows_router_mib": round(memory(cluster.pid("router-1"))),
            }


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.flows", description=__doc__)
    parser.add_argument("--flows", type=int, default=100_000)
    print(json.dumps(asyncio.run(bench(parser.parse_args().flows)), indent=2))


if __name__ == "__main__":
    main()
