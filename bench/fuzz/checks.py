"""What has to hold of the cluster when the fuzzing is over."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final

from bench.cluster import Cluster
from bench.fuzz.answers import read_answers
from bench.fuzz.drafts import HANDSHAKES, Drafts
from bench.fuzz.edges import KEYED, PLAIN, Edge
from bench.fuzz.findings import SHOWN
from bench.fuzz.flows import CLOSED, NAMESPACE, RUNNING
from bench.fuzz.plans import KEYED_FLOWS, Plan
from bench.fuzz.sender import Sender
from bench.fuzz.signing import Draft
from flowhook.model import Status

DRAIN_SECONDS: Final = 300.0
"""How long what was accepted may take to run afterwards."""

ACCEPTED: Final[Mapping[str, int]] = {CLOSED: 401, "reply": 200, "waits": 200, "limited": 202}
"""What a plain request is answered with, where that is not 202."""

UNPROVABLE: Final = frozenset({"jwks-broken"})
"""Flows whose keys can't be relied on."""

_LOUD: Final = re.compile(
    r'Traceback|"level": ?"(error|critical)"|"exception"|\[error|\[critical|never retrieved|never awaited'
)


async def check(cluster: Cluster, edges: Mapping[str, Edge], pid: int, sender: Sender, drafts: Drafts) -> None:
    """Look at everything, and have the sender's findings take what is not as it should be.

    Args:
        cluster: that was sent to.
        edges: that were, by name.
        pid: of the cluster's edge when it began.
        sender: that did it.
        drafts: makes requests that are known to be good.
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
    """Send what is known to be good: a request to each flow, and each handshake."""
    for name in drafts.flows:
        if name in UNPROVABLE:
            continue
        expected = ACCEPTED.get(name, 202)
        await _ask(sender, drafts, drafts.valid(name, plain=True), name, expected)
    for name in HANDSHAKES:
        await _ask(sender, drafts, drafts.handshake(name), name, 200)


async def _ask(sender: Sender, drafts: Drafts, draft: Draft, name: str, expected: int) -> None:
    data = drafts.encoded(draft)
    edge = KEYED if name in KEYED_FLOWS else PLAIN
    plan = Plan(edge, "127.0.0.1", b"", [data], 1, whole=True)
    for _ in range(75):
        received = await sender.exchange(plan)
        statuses = [status for status in read_answers(received).statuses if status >= 200]
        if not {429, 503} & set(statuses):  # limits of rates and fetching run out
            break
        await asyncio.sleep(1)
    if statuses != [expected]:
        sender.findings.fail(f"a good request to {name} afterwards: {statuses}, not {expected}", data, received)


async def _check_executions(cluster: Cluster, sender: Sender) -> None:
    """Let the flows that run end what they have; they take anything, so that nothing of them may fault."""
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
        sender.findings.fail(f"an event of a flow whose credentials nobody has: {execution.id}")
