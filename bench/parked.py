"""Measures waiting executions: the router's memory, its restart, and the lateness of their timers.

Run: .venv/bin/python -m bench.parked [--executions 100000] [--spread 60]

A runner of its own parks them all. Then the router is killed and started again, and the executions are due, evenly over
`--spread` seconds; lateness is the time from then until the runner receives an execution, by the machine's clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

from bench.events import BATCH, ingest
from bench.log import log
from bench.requests import quantile
from flowhook.client import AsyncClient
from flowhook.client.channel import connect
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RouterSettings
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.v1 import runner_service_pb2_grpc
from flowhook.wire import convert
from router.process import app

FLOW: Final = (
    b"document: {dsl: 1.0.3, namespace: default, name: parked, version: 1.0.0}\ndo:\n  - keep: {set: {a: 1}}\n"
)
CREDIT: Final = 1024
MIB: Final = 1 << 20
READY: Final = b"serving "
MARGIN_SECONDS: Final = 10.0
"""Minimum time between the restart and the first wake time."""
SETTLE_SECONDS: Final = 60.0
"""Limit for the last execution to be stored as waiting."""


class ParkingRouter:
    """A router as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, target: str, data_dir: Path) -> None:
        self.process = process
        self.target = target
        self._data_dir = data_dir

    def token(self, role: str) -> str:
        """Return the token of a role."""
        return (self._data_dir / f"{role}.token").read_text().strip()

    @property
    def memory(self) -> float:
        """Resident memory in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MIB


@asynccontextmanager
async def running_router(data_dir: Path) -> AsyncIterator[ParkingRouter]:
    """Run a router, and kill it at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.parked", "--serve", str(data_dir), stdout=subprocess.PIPE
    )
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    try:
        while not (line := await process.stdout.readline()).startswith(READY):
            if not line:
                raise RuntimeError("the router ended")
        yield ParkingRouter(process, line.removeprefix(READY).decode().strip(), data_dir)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def serve(data_dir: Path) -> None:
    """Serve as the router, and print its address."""
    lifecycle = ProcessState(name="router-1", role="router")
    serving = asyncio.create_task(app.serve(RouterSettings(data_dir=data_dir, grpc_port=0), lifecycle))
    ready = asyncio.create_task(lifecycle.ready.wait())
    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
    print(READY.decode() + lifecycle.addresses["grpc"], flush=True)
    await serving


class ParkingRunner:
    """A runner that executes nothing."""

    def __init__(self, router: ParkingRouter) -> None:
        self._channel = connect(router.target, router.token("runner"))
        self._call: Any = runner_service_pb2_grpc.RunnerServiceStub(self._channel).Attach(None)
        self._renewed = time.monotonic()

    async def __aenter__(self) -> Self:
        """Attach."""
        await self._send(hello=pb.Hello(runner_id="bench", losses_explained=True))
        await self._send(credit=pb.Credit(assignments=CREDIT))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave."""
        self._call.cancel()
        await self._channel.close(None)

    async def assignments(self) -> AsyncIterator[pb.Assignment]:
        """Yield assignments, and grant credit for as many again."""
        while (message := await self._call.read()) and message is not None:
            if time.monotonic() - self._renewed > 1:
                self._renewed = time.monotonic()
                await self._send(renewal=pb.Renewal())
            responses = message.bundle.responses or [message]
            found = [assignment for each in responses for assignment in each.assignments.assignments]
            for assignment in found:
                yield assignment
            if found:
                await self._send(credit=pb.Credit(assignments=len(found)))

    async def settle(self, outcomes: list[pb.Outcome]) -> None:
        """Report outcomes."""
        await self._send(outcomes=pb.OutcomeBatch(outcomes=outcomes))

    async def _send(self, **message: Any) -> None:
        await self._call.write(pb.AttachRequest(**message))


async def park_all(router: ParkingRouter, count: int, first: float, spread: float) -> None:
    """Park `count` executions, due evenly from `first` (Unix time) on over `spread` seconds."""
    parked = 0
    outcomes: list[pb.Outcome] = []
    async with ParkingRunner(router) as runner:
        async for assignment in runner.assignments():
            wake_time = convert.timestamp(int((first + spread * parked / count) * 1000))
            outcomes.append(pb.Outcome(lease=assignment.lease, parked=pb.Parked(wake_time=wake_time)))
            parked += 1
            if len(outcomes) >= BATCH or parked == count:
                await runner.settle(outcomes)
                outcomes = []
            if parked == count:
                break
        else:
            raise RuntimeError(f"the router ended the stream after {parked} of {count} executions were parked")
        await until_waiting(router, count)


async def until_waiting(router: ParkingRouter, count: int) -> None:
    """Wait until as many executions wait."""
    async with AsyncClient(router.target, token=router.token("admin")) as client, asyncio.timeout(SETTLE_SECONDS):
        while True:
            text = (await client.cluster.processes())[0].metrics.decode()
            waiting = next(line for line in text.splitlines() if 'state="waiting"' in line)
            if float(waiting.split()[1]) == count:
                return
            await asyncio.sleep(0.2)


async def fire(router: ParkingRouter, count: int, first: float, spread: float) -> list[float]:
    """Receive all executions, and return their lateness in seconds, ascending.

    The n-th received execution is compared with the n-th wake time.
    """
    late: list[float] = []
    outcomes: list[pb.Outcome] = []
    async with ParkingRunner(router) as runner:
        async for assignment in runner.assignments():
            late.append(time.time() - (first + spread * len(late) / count))
            outcomes.append(pb.Outcome(lease=assignment.lease, completed=pb.Completed(output=b"{}")))
            if len(outcomes) >= BATCH or len(late) == count:
                await runner.settle(outcomes)
                outcomes = []
            if len(late) == count:
                break
        else:
            raise RuntimeError(f"the router ended the stream after {len(late)} of {count} executions")
    return sorted(late)


class TooSlowError(RuntimeError):
    """Executions were due before the router had started again."""


async def bench(count: int, spread: float) -> dict[str, Any]:
    """Measure, once again with more time if the machine was too busy, and return the figures."""
    try:
        return await measure(count, spread, patience=1)
    except TooSlowError as problem:
        log(f"{problem}; trying again with more time")
        return await measure(count, spread, patience=3)


async def measure(count: int, spread: float, patience: float) -> dict[str, Any]:
    """Measure once and return the figures.

    Args:
        count: of executions.
        spread: seconds over which they are due.
        patience: multiplies the time for parking them all and for the restart.

    Raises:
        TooSlowError: the time was too short.
    """
    with tempfile.TemporaryDirectory(prefix="flowhook-bench-") as folder:
        data_dir = Path(folder)
        began = time.monotonic()
        async with running_router(data_dir) as router:
            empty, empty_start = router.memory, time.monotonic() - began
            async with AsyncClient(router.target, token=router.token("admin")) as client:
                await client.flows.apply([FLOW])
            began = time.monotonic()
            await ingest(router.target, router.token("edge"), "parked", count)
            accepted = time.monotonic() - began
            # parking and the restart together take less than three times as long as accepting
            first = time.time() + patience * (3 * accepted + MARGIN_SECONDS)
            await park_all(router, count, first, spread)
            parked, before = time.monotonic() - began - accepted, router.memory
        began = time.monotonic()
        async with running_router(data_dir) as router:
            restart, after = time.monotonic() - began, router.memory
            margin = first - time.time()
            if margin < 0:
                raise TooSlowError("parking took too long: executions were due before the router had started again")
            await asyncio.sleep(max(0.0, margin - 1))
            late = await fire(router, count, first, spread)
    return {
        "parked_executions": count,
        "parked_per_second": round(count / parked),
        "parked_memory_empty_mib": round(empty, 1),
        "parked_memory_before_restart_mib": round(before, 1),
        "parked_memory_mib": round(after, 1),
        "parked_bytes_each": round((after - empty) * MIB / count),
        "parked_start_empty_seconds": round(empty_start, 2),
        "parked_restart_seconds": round(restart, 2),
        "parked_due_rate": round(count / spread),
        "parked_late_p50_ms": round(quantile(late, 0.50) * 1000, 1),
        "parked_late_p99_ms": round(quantile(late, 0.99) * 1000, 1),
        "parked_late_max_ms": round(late[-1] * 1000, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.parked", description=__doc__)
    parser.add_argument("--executions", type=int, default=100_000, help=f"rounded down to a multiple of {BATCH}")
    parser.add_argument("--spread", type=float, default=60.0, help="seconds over which they are due")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve))
    else:
        print(json.dumps(asyncio.run(bench(options.executions // BATCH * BATCH, options.spread)), indent=2))


if __name__ == "__main__":
    main()
