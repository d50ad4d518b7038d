"""One campaign, from an empty cluster to the verdict."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import orjson

from chaos import flows
from chaos.cluster import RUNNERS, BrokenCluster
from chaos.evidence import EndedExecution, Evidence, LostLease
from chaos.faults import FaultInjector, InjectedFault
from chaos.mutations import Mutation
from chaos.peers import Peers
from chaos.replicated_cluster import ReplicatedCluster
from chaos.replicated_faults import ReplicatedFaultInjector
from chaos.senders import Senders, Sent
from chaos.service import Call, running_service
from chaos.verdict import Verdict, judge, suspects
from flowhook import limits
from flowhook.client import AsyncClient
from flowhook.errors import FlowhookError
from flowhook.model import Status
from flowhook.model.executions import AttemptEnd

SETTLE_SECONDS: Final = 120.0
"""Time after the last fault in which one more execution has to end, until all have."""
MUTATED_SETTLE_SECONDS: Final = 20.0
"""The same for a cluster with a defect, which may keep executions from ending at all."""
REPORT_SECONDS: Final = 10.0
EVIDENCE: Final = "evidence.json"
"""File of the campaign's directory with all that its verdict is based on."""
RECENT: Final = 3000
"""Events and calls among which those are looked for that show that the cluster works again."""
SNAPSHOT_LOG_BYTES: Final = 4 * limits.MIB
"""Growth of a replicated log after which a snapshot is made: little, so that it is purged while faults are made."""

SQLITE: Final = "sqlite"
"""One router, with a database of its own."""
NATS: Final = "nats"
"""Three routers, on a log that three NATS servers replicate."""
STORAGES: Final = (SQLITE, NATS)


async def run_campaign(
    directory: Path,
    *,
    seconds: float,
    rate: float,
    seed: int,
    report: Callable[[str], None],
    storage: str = SQLITE,
    mutation: Mutation | None = None,
) -> Verdict:
    """Run a campaign.

    Args:
        directory: an empty one, for the data and the log of the cluster, and for the evidence.
        seconds: time in which events are sent and faults are made.
        rate: events a second.
        seed: decides which faults are made, and when.
        report: is given lines of progress.
        storage: one of `STORAGES`.
        mutation: a defect of the cluster, with embedded storage, that the verdict should name; None: none.

    Raises:
        RuntimeError: the cluster does not get ready.
    """
    cluster = _cluster(storage, directory / "data", mutation)
    settle_seconds = SETTLE_SECONDS if mutation is None else MUTATED_SETTLE_SECONDS
    senders = Senders(cluster, large_bytes=cluster.inline_bytes, patience=settle_seconds)
    async with running_service(Peers(cluster, RUNNERS), senders.call_back) as service:

        def has_recovered(since: float) -> bool:
            return _has_recovered(since, senders.sent, service.calls)

        injector = _injector(
            cluster, random.Random(seed), report, has_recovered=has_recovered, seconds=seconds, mutation=mutation
        )
        await cluster.start()
        try:
            async with cluster.client() as client:
                await client.flows.apply(flows.documents(service.urls))
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(_report(senders.sent, injector, report)),
                    tasks.create_task(senders.run_callbacks()),
                ]
                sending = tasks.create_task(senders.run(rate=rate))
                await injector.run(seconds)
                senders.stop()
                await sending
                report("waiting for the executions to end")
                async with cluster.client() as client:
                    settled = await _settle(client, settle_seconds)
                    evidence = await _evidence(client, senders.sent, service.calls, injector.faults)
                for task in background:
                    task.cancel()
            exit_code = await cluster.stop()
            findings = await cluster.examine()
        finally:
            await cluster.close()
    (directory / EVIDENCE).write_bytes(orjson.dumps(evidence, default=list))
    verdict = judge(evidence)
    verdict.add(findings)
    verdict.count_stall(service.stalled_seconds)
    if not settled:
        verdict.problems.append(f"not_settled: some executions have not ended, and for {settle_seconds:g} s none did")
    if exit_code:
        verdict.problems.append(f"stop: `flowhook up` ended with exit code {exit_code}")
    return verdict


def _cluster(storage: str, data_dir: Path, mutation: Mutation | None) -> BrokenCluster:
    if storage == NATS:
        return ReplicatedCluster(data_dir, snapshot_log_bytes=SNAPSHOT_LOG_BYTES)
    return BrokenCluster(data_dir, None if mutation is None else mutation.environment())


def _injector(
    cluster: BrokenCluster,
    chance: random.Random,
    report: Callable[[str], None],
    *,
    has_recovered: Callable[[float], bool],
    seconds: float,
    mutation: Mutation | None,
) -> FaultInjector:
    if isinstance(cluster, ReplicatedCluster):
        return ReplicatedFaultInjector(cluster, chance, report, has_recovered=has_recovered, longest=seconds / 2)
    aim = None if mutation is None else mutation.aim
    return FaultInjector(cluster, chance, report, has_recovered=has_recovered, aim=aim)


def _has_recovered(since: float, sent: Sent, calls: Sequence[Call]) -> bool:
    """Whether each runner made a call, and an event made its last one, that began after a time.

    Events run in the order of their arrival, so those that had to wait meanwhile run again by then.
    """
    sent_since = {each.event_id for each in sent.acknowledged[-RECENT:] if each.asked > since}
    made = [call for call in calls[-RECENT:] if call.began > since]
    last = flows.steps(flows.CALLS)[-1]
    return {call.runner for call in made}.issuperset(RUNNERS) and any(
        call.step == last and call.execution_id in sent_since for call in made
    )


async def _report(sent: Sent, injector: FaultInjector, report: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        report(f"{len(sent.acknowledged)} events acknowledged, {len(injector.faults)} faults made")


async def _settle(client: AsyncClient, seconds: float) -> bool:
    """Wait until all executions have ended; false: for so many seconds none did, though some had to."""
    fewest, since = None, time.monotonic()
    while time.monotonic() - since < seconds:
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


async def _evidence(
    client: AsyncClient, sent: Sent, calls: Sequence[Call], faults: Sequence[InjectedFault]
) -> Evidence:
    """Read what is stored about the executions."""
    monotonic = time.monotonic() - time.time()

    def moment(unix_ms: int) -> float:
        return unix_ms / 1000 + monotonic

    executions = {
        each.id: EndedExecution(
            each.flow_id, each.status, None if each.end_time_ms is None else moment(each.end_time_ms)
        )
        async for each in client.executions.list()
    }
    lost: dict[str, list[LostLease]] = {}
    for execution_id in suspects(calls, faults) & executions.keys():
        detail = await client.executions.get(execution_id, max_body_bytes=0)
        lost[execution_id] = [
            LostLease(
                each.runner,
                None if each.assign_time_ms is None else moment(each.assign_time_ms),
                moment(each.end_time_ms),
                each.reason,
            )
            for each in detail.attempts
            if each.end_time_ms is not None and each.end is not AttemptEnd.EXECUTION_ENDED
        ]
    damaged = [
        each.event_id
        for each in sent.acknowledged
        if each.digest and each.event_id in executions and await _digest(client, each.event_id) != each.digest
    ]
    return Evidence(sent, executions, calls, faults, lost, damaged)


async def _digest(client: AsyncClient, execution_id: str) -> str:
    digest = hashlib.sha256()
    async for chunk in client.executions.body(execution_id):
        digest.update(chunk)
    return digest.hexdigest()
