"""Run the benchmark, `make bench`: all parts against a bare Tornado handler in the same run.

Figures depend on the machine; compare the ratios within one run. Writes bench/latest.json. If a part fails, the table
and the exit code report it, and the other parts are still measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench import acceptance, bodies, calls, fairness, flows, parked, replicated, takeover
from bench.echo_server import echo_server
from bench.events import BATCH
from bench.log import log
from harness.cluster import running_cluster

FOLDER: Final = Path(__file__).parent
CALLS: Final = 3_000
BACKLOG: Final = 100_000
FAIRNESS_SECONDS: Final = 60.0
PARKED: Final = 100_000
FLOWS: Final = 100_000
PARKED_SPREAD: Final = 40.0
ROUNDS: Final = 5
UNFINISHED: Final = 100_000
TAKEOVERS: Final = 3
IDLE_SECONDS: Final = 20.0

HISTORY: Final = FOLDER / "history.json"
RECORDED: Final = ("bare_us", "accept_us", "accept_cost", "e2e_us", "e2e_cost", "bare_rps", "accept_rps", "e2e_rps")
MIN_PART: Final = 0.5
"""Parts of a process that take less CPU time an event (µs) are not in the table, but in bench/latest.json."""

MAX_CAUSE: Final = 200
"""Characters of the cause of a failure in the table."""

Figures = dict[str, Any]
Row = tuple[str, str, str]


class BenchmarkPart(NamedTuple):
    """A part of the benchmark: its limit in seconds, its measurement, its rows of the table (name, figure, ratio)."""

    name: str
    seconds: float
    measure: Callable[[], Awaitable[Figures]]
    rows: Callable[[Figures], list[Row]]


def parts(seconds: float, scale: float, rounds: int = ROUNDS, against: Path | None = None) -> list[BenchmarkPart]:
    """Return all parts.

    Args:
        seconds: of each measurement of acceptance.
        scale: multiplies the size of the others.
        rounds: of what is measured in turns.
        against: a checkout of another version, set up, whose CPU time an event is measured in turns with this one's.
    """

    def count(number: int) -> int:
        return max(1, round(number * scale / BATCH)) * BATCH

    async def calling() -> Figures:
        async with echo_server() as server, running_cluster("--allow-private-addresses") as cluster:
            return await calls.bench(cluster, server, count(CALLS))

    async def beside_a_backlog() -> Figures:
        async with echo_server() as server, running_cluster("--allow-private-addresses") as cluster:
            return await fairness.bench(cluster, server, count(BACKLOG), max(6.0, FAIRNESS_SECONDS * scale))

    async def other_bodies() -> Figures:
        async with running_cluster("--runners", "1") as cluster:
            return await bodies.bench(cluster, seconds)

    async def taking_over() -> Figures:
        return await takeover.bench(count(UNFINISHED), TAKEOVERS, max(2.0, IDLE_SECONDS * scale))

    return [
        BenchmarkPart("acceptance", 900, lambda: acceptance.bench(rounds, seconds, against=against), _acceptance_rows),
        BenchmarkPart("bodies", 60, other_bodies, _bodies_rows),
        BenchmarkPart("flows", 240, lambda: flows.bench(count(FLOWS)), _flows_rows),
        BenchmarkPart("calls", 90, calling, _calls_rows),
        BenchmarkPart("fairness", 300, beside_a_backlog, _fairness_rows),
        BenchmarkPart(
            "parked", 240, lambda: parked.bench(count(PARKED), max(2.0, PARKED_SPREAD * scale)), _parked_rows
        ),
        BenchmarkPart("replicated", 600, lambda: replicated.bench(rounds, seconds), _replicated_rows),
        BenchmarkPart("takeover", 300, taking_over, _takeover_rows),
    ]


def _acceptance_rows(figures: Figures) -> list[Row]:
    latency = f"at {figures['latency_rate']:,}/s, executing"
    rows = [("CPU of a request to a bare Tornado handler", f"{figures['bare_us']} µs", "1.00")]
    for key, what in (("accept", "a durable acceptance, HMAC"), ("e2e", "a whole execution of four tasks")):
        rows.append((f"CPU of {what}", f"{figures[f'{key}_us']} µs", f"{figures[f'{key}_cost']:.2f}"))
        for kind, used in figures[f"{key}_us_by_process"].items():
            rows.append((f"  {kind}", f"{used} µs", ""))
            by_part = figures[f"{key}_us_by_part"].get(kind.partition(",")[0], {})
            if kind in ("edge", "runner", "router, loop"):
                rows += [(f"    {part}", f"{value} µs", "") for part, value in by_part.items() if value >= MIN_PART]
        if f"{key}_us_against" in figures:
            ratio = figures[f"{key}_us_ratio"]
            rows.append(("  the other version; this one:", f"{figures[f'{key}_us_against']} µs", f"{ratio}"))
    return [
        *rows,
        ("bare Tornado handler that answers 202", f"{figures['bare_rps']:,}/s", "1.00"),
        ("durable acceptance", f"{figures['accept_rps']:,}/s", f"{figures['accept_ratio']:.2f}"),
        ("whole executions", f"{figures['e2e_rps']:,}/s", f"{figures['e2e_ratio']:.2f}"),
        (f"acceptance p50 {latency}", f"{figures['accept_p50_ms']} ms", ""),
        (f"acceptance p99 {latency}", f"{figures['accept_p99_ms']} ms", ""),
    ]


def _bodies_rows(figures: Figures) -> list[Row]:
    return [
        (f"acceptance of {what}, {figures[f'{key}_bytes']:,} bytes", f"{figures[f'{key}_rps']:,}/s", "")
        for key, what in (("form", "a form"), ("xml", "XML"), ("multipart", "multipart with a file"))
    ]


def _flows_rows(figures: Figures) -> list[Row]:
    what = f"{figures['flows']:,} flows"
    return [
        (f"{what}: p50 of a lookup that the edge has cached", f"{figures['flows_hit_p50_ms']} ms", ""),
        (f"{what}: the same, from the router", f"{figures['flows_miss_p50_ms']} ms", ""),
        (
            f"{what}: memory of the edge, {figures['flows_asked_for']:,} looked up",
            f"{figures['flows_edge_mib']} MiB",
            "",
        ),
        (f"{what}: memory of the router", f"{figures['flows_router_mib']} MiB", ""),
    ]


def _calls_rows(figures: Figures) -> list[Row]:
    return [("executions of ten tasks, three of them HTTP calls", f"{figures['calls_rps']:,}/s", "")]


def _fairness_rows(figures: Figures) -> list[Row]:
    backlog = f"beside a backlog of {figures['fairness_backlog']:,}"
    return [
        ("p99 of a quiet flow, receipt to end, alone", f"{figures['fairness_p99_alone_ms']} ms", "1.00"),
        (f"the same {backlog}", f"{figures['fairness_p99_ms']} ms", f"{figures['fairness']:.2f}"),
    ]


def _parked_rows(figures: Figures) -> list[Row]:
    what = f"{figures['parked_executions']:,} parked"
    return [
        (f"{what}: memory of the router", f"{figures['parked_memory_mib']} MiB", ""),
        (f"{what}: bytes for each", f"{figures['parked_bytes_each']:,}", ""),
        (f"{what}: start of the router", f"{figures['parked_restart_seconds']} s", ""),
        (f"{what}: p99 of lateness at {figures['parked_due_rate']:,}/s", f"{figures['parked_late_p99_ms']} ms", ""),
    ]


def _replicated_rows(figures: Figures) -> list[Row]:
    rows: list[Row] = []
    for name, what in (
        (replicated.EMBEDDED, "embedded storage"),
        ("r1", "log on 1 server"),
        ("r3", "log on 3 servers"),
        ("r3_standby", "log on 3 servers, standby"),
    ):
        key = f"replicated_{name}"
        rows += [
            (
                f"{what}: durable acceptance",
                f"{figures[f'{key}_accept_rps']:,}/s",
                f"{figures[f'{key}_accept_ratio']:.2f}",
            ),
            (f"{what}: whole executions", f"{figures[f'{key}_e2e_rps']:,}/s", f"{figures[f'{key}_e2e_ratio']:.2f}"),
            (
                f"{what}: acceptance p50, p99 at {figures['replicated_latency_rate']:,}/s",
                f"{figures[f'{key}_p50_ms']}, {figures[f'{key}_p99_ms']} ms",
                "",
            ),
        ]
    return rows


def _takeover_rows(figures: Figures) -> list[Row]:
    rows = [
        (f"{what}: until {until}", f"{figures[f'{key}_seconds']} s", "")
        for name, what in (
            ("takeover", "takeover"),
            ("takeover_backlog", f"takeover, {figures['takeover_unfinished']:,} unfinished"),
        )
        for key, until in ((f"{name}_accept", "an event is accepted"), (f"{name}_serving", "serving"))
    ]
    return [
        *rows,
        ("two routers, three NATS servers at rest: CPU", f"{figures['idle_cpu_percent']} % of a core", ""),
        ("the same: transactions in the log", f"{figures['idle_batches_per_second']}/s", ""),
    ]


async def bench(chosen: list[BenchmarkPart]) -> tuple[Figures, dict[str, str]]:
    """Measure parts one after another; returns the figures, and the causes of failures by the part's name."""
    figures: Figures = {"cores": os.cpu_count(), "python": platform.python_version()}
    failures: dict[str, str] = {}
    for part in chosen:
        began = time.monotonic()
        try:
            async with asyncio.timeout(part.seconds):
                figures |= await part.measure()
        except Exception as problem:  # noqa: BLE001 - reported in the table; the other parts are measured
            failures[part.name] = _cause(problem, f"not finished within {part.seconds} s")
            log(f"{part.name} failed: {failures[part.name]}")
        log(f"{part.name}: took {time.monotonic() - began:.0f} s")
    return figures, failures


def _cause(problem: BaseException, otherwise: str) -> str:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return " ".join(f"{type(problem).__name__}: {str(problem) or otherwise}".split())[:MAX_CAUSE]


def table(chosen: list[BenchmarkPart], figures: Figures, failures: Mapping[str, str]) -> str:
    """Return the table of all parts, failed ones included."""
    rows: list[Row] = [("", "", "ratio")]
    for part in chosen:
        rows += [(part.name, "FAILED", "")] if part.name in failures else part.rows(figures)
    width = max(len(row[0]) for row in rows)
    lines = [f"{name:<{width}}  {value:>12}  {ratio:>6}" for name, value, ratio in rows]
    return "\n".join(lines + [f"{name} failed: {cause}" for name, cause in failures.items()])


def record(figures: Figures) -> None:
    """Append a line about the commit that was measured to bench/history.json."""
    head = subprocess.check_output(["git", "log", "-1", "--format=%h %cs %s"], text=True)  # noqa: S607 - the user's
    commit, date, subject = head.strip().split(" ", 2)
    entry = {"commit": commit, "date": date, "subject": subject} | {key: figures[key] for key in RECORDED}
    lines = [json.dumps(each) for each in [*json.loads(HISTORY.read_text()), entry]]
    HISTORY.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def main() -> None:
    """Measure, print the table, write bench/latest.json."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of each measurement of acceptance")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the size of the other parts")
    names = [part.name for part in parts(1.0, 1.0)]
    parser.add_argument("--part", action="append", choices=names, help="may be repeated; default: all parts")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of what is measured in turns")
    parser.add_argument("--against", type=Path, help="checkout of another version, set up, to compare CPU time with")
    parser.add_argument("--record", action="store_true", help="append CPU time and rates to bench/history.json")
    options = parser.parse_args()
    everything = parts(options.seconds, options.scale, options.rounds, options.against)
    chosen = [part for part in everything if not options.part or part.name in options.part]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the clusters, too
    figures, failures = asyncio.run(bench(chosen))
    figures["failures"] = failures
    (FOLDER / "latest.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(table(chosen, figures, failures))
    if options.record and "accept_us" in figures:
        record(figures)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
