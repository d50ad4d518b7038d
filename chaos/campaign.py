"""One campaign, from an empty cluster to the verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from chaos import flows
from chaos.cluster import RUNNERS, BrokenCluster
from chaos.faults import FaultInjector
from chaos.peers import Peers
from chaos.replicated_cluster import ReplicatedCluster
from chaos.replicated_faults import ReplicatedFaultInjector
from chaos.senders import Senders
from chaos.service import running_service
from chaos.verdict import Verdict, judge
from flowhook.client import AsyncClient
from flowhook.errors import FlowhookError
from flowhook.model import Status

SETTLE_SECONDS: Final = 120.0
"""Time after the last fault in which one more execution has to end, until all have."""
REPORT_SECONDS: Final = 10.0

SQLITE: Final = "sqlite"
"""One router, with a database of its own."""
NATS: Final = "nats"
"""Three routers, on a log that three NATS servers replicate."""
STORAGES: Final = (SQLITE, NATS)


async def run_campaign(
    directory: Path, *, seconds: float, rate: float, seed: int, report: Callable[[str], None], storage: str = SQLITE
) -> Verdict:
    """Run a campaign.

    Args:
        directory: an empty one, for the data and the log of the cluster.
        seconds: time in which events are sent and faults are made.
        rate: events a second.
        seed: decides which faults are made, and when.
        report: is given lines of progress.
        storage: one of `STORAGES`.

    Raises:
        RuntimeError: the cluster does not get ready.
    """
    cluster, injector = _prepare(storage, directory / "data", random.Random(seed), report, seconds)
    async with running_service(Peers(cluster, RUNNERS)) as service:
        await cluster.start()
        try:
            async with cluster.client() as client:
                await client.flows.apply(flows.documents(service.url))
            senders = Senders(cluster)
            async with asyncio.TaskGroup() as tasks:
                progress = tasks.create_task(_report(senders, injector, report))
                sending = tasks.create_task(senders.run(seconds, rate=rate))
                await injector.run(seconds)
                await sending
                progress.cancel()
            report("waiting for the executions to end")
            async with cluster.client() as client:
                settled = await _settle(client)
                executions = await _executions(client)
            exit_code = await cluster.stop()
            findings = await cluster.examine()
        finally:
            await cluster.close()
    verdict = judge(senders.acknowledged, executions, service.calls, injector.faults)
    verdict.add(findings)
    verdict.counts["requests"] = senders.requests
    if not settled:
        verdict.problems.append(f"not_settled: some executions have not ended, and for {SETTLE_SECONDS:g} s none did")
    if exit_code:
        verdict.problems.append(f"stop: `flowhook up` ended with exit code {exit_code}")
    return verdict


def _prepare(
    storage: str, data_dir: Path, chance: random.Random, report: Callable[[str], None], seconds: float
) -> tuple[BrokenCluster, FaultInjector]:
    if storage == NATS:
        replicated = ReplicatedCluster(data_dir)
        return replicated, ReplicatedFaultInjector(replicated, chance, report, longest=seconds / 2)
    cluster = BrokenCluster(data_dir)
    return cluster, FaultInjector(cluster, chance, report)


async def _report(senders: Senders, injector: FaultInjector, report: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        report(f"{len(senders.acknowledged)} events acknowledged, {len(injector.faults)} faults made")


async def _settle(client: AsyncClient) -> bool:
    """Wait until all executions have ended; false: for `SETTLE_SECONDS` none did, though some had to."""
    fewest, since = None, time.monotonic()
    while time.monotonic() - since < SETTLE_SECONDS:
        try:
            listed = client.executions.list(statuses=[each for each in Status if not each.ended])
            unfinished = len([execution async for execution in listed])
        except FlowhookError:
            unfinished = None  # the router is being started again
        if unfinished == 0:
            return True
        if unfinished is not None and (fewest is None or unfinished < fewest):
            fewest, since = unfinished, time.monotonic()
        # listing many is work, which the executions are to have
        await asyncio.sleep(min(5.0, 0.2 + (unfinished or 0) / 1000))
    return False


async def _executions(client: AsyncClient) -> dict[str, tuple[str, Status]]:
    return {each.id: (each.flow_id, each.status) async for each in client.executions.list()}
