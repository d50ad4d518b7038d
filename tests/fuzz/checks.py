"""Checks the cluster after the requests: processes, logs, executions, and answers to good requests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final

from flowhook.model import Status
from fuzz.answers import read_answers
from fuzz.drafts import HANDSHAKES, Drafts
from fuzz.edges import KEYED, PLAIN, Edge
from fuzz.findings import SHOWN
from fuzz.flows import CLOSED, NAMESPACE, RUNNING
from fuzz.plans import KEYED_FLOWS, Plan
from fuzz.sender import Sender
from fuzz.signing import Draft
from harness.cluster import Cluster

DRAIN_SECONDS: Final = 300.0
"""Time in which the accepted events have to run afterwards."""

ACCEPTED: Final[Mapping[str, int]] = {CLOSED: 401, "reply": 200, "waits": 200, "limited": 202}
"""Status of the answer to a plain request, if it is not 202."""

UNPROVABLE: Final = frozenset({"jwks-broken"})
"""Flows whose keys are broken at random."""

_LOUD: Final = re.compile(
    r'Traceback|"level": ?"(error|critical)"|"exception"|\[error|\[critical|never retrieved|never awaited'
)


async def check(cluster: Cluster, edges: Mapping[str, Edge], pid: int, sender: Sender, drafts: Drafts) -> None:
    """Check everything, and record failures in the sender's findings.

    Args:
        cluster: that received the requests.
        edges: of the cluster, by name.
        pid: of the cluster's own edge at the start.
        sender: sent the requests.
        drafts: generates good requests.
    """
    found = sender.findings
    if cluster.pid("edge-1") != pid:
        found.fail("the edge was restarted")
    for edge in edges.values():
        if edge.process is not None and edge.process.returncode is not None:
            found.fail(f"the {edge.name} edge has ended")
    await _check_answers(sender, drafts)
    await _check_executions(cluster, sender)
    for line in filter(_LOUD.search, cluster.output):
        found.fail(f"in the log: {line.strip()[:2000]}")


async def _check_answers(sender: Sender, drafts: Drafts) -> None:
    """Send a good request to each flow, and each handshake."""
    for name in drafts.flows:
        if name in UNPROVABLE:
            continue
        expected = ACCEPTED.get(name, 202)
        await _expect(sender, drafts, drafts.valid(name, plain=True), name, expected)
    for name in HANDSHAKES:
        await _expect(sender, drafts, drafts.handshake(name), name, 200)


async def _expect(sender: Sender, drafts: Drafts, draft: Draft, name: str, expected: int) -> None:
    data = drafts.encoded(draft)
    edge = KEYED if name in KEYED_FLOWS else PLAIN
    plan = Plan(edge, "127.0.0.1", b"", [data], 1, whole=True)
    for _ in range(75):
        received = await sender.exchange(plan)
        statuses = [status for status in read_answers(received).statuses if status >= 200]
        if not {429, 503} & set(statuses):  # limits of rates and of fetches expire
            break
        await asyncio.sleep(1)
    if statuses != [expected]:
        sender.findings.fail(f"a good request to {name} afterwards: {statuses}, not {expected}", data, received)


async def _check_executions(cluster: Cluster, sender: Sender) -> None:
    """Wait for the executions to end; flows that run accept any event, so none may fault."""
    unfinished = (Status.PENDING, Status.RUNNING)
    for name in RUNNING:
        flow_id = f"{NAMESPACE}.{name}"
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while [
                    each async for each in cluster.client.executions.list(flow_id=flow_id, statuses=unfinished, limit=1)
                ]:
                    await asyncio.sleep(0.5)
        except TimeoutError:
            sender.findings.fail(f"executions of {name} do not end")
        faulted = cluster.client.executions.list(flow_id=flow_id, statuses=(Status.FAULTED,), limit=SHOWN)
        async for execution in faulted:
            sender.findings.fail(f"an execution of {name} faulted: {execution.id}, {execution.error}")
    async for execution in cluster.client.executions.list(flow_id=f"{NAMESPACE}.{CLOSED}", limit=1):
        sender.findings.fail(f"an event of a flow whose credentials no request had: {execution.id}")
