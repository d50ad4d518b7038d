"""Fills a cluster with what the console is measured with: much of everything that its pages show."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from pathlib import Path
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from bench.events import PADDING, UNFINISHED, payload
from bench.flows import DOCUMENT, MARK, register
from bench.log import log
from bench.requests import FOLDER
from flowhook.client.channel import connect
from flowhook.document.loader import canonical, parse
from flowhook.events import ids
from flowhook.model import Event, Status, WorkflowError
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import MAX_RATE, JobAction, JobSpec
from flowhook.v1 import envelope_pb2, rejection_service_pb2, rejection_service_pb2_grpc
from flowhook.wire import convert
from harness.cluster import Cluster
from router.storage.model import Ended, NewEvent
from router.storage.registry import FlowDraft
from router.storage.storage import Storage, open_storage

BODY_BYTES: Final = 10 << 20
REVISIONS: Final = 1_000
REJECTIONS: Final = 10_000
REPORTED: Final = 100
"""Rejections in one report."""
TASKS: Final = 1_000
DOCUMENT_BYTES: Final = 255 << 10
"""Size of the largest flow file: a little less than it may have."""
ATTRIBUTES: Final = 8
PORTION: Final = 1_000
"""Executions in one transaction."""

RUN: Final = "bench.run"
FAULTY: Final = "bench.faulty"
SEARCHED: Final = "bench.searched"
LARGE: Final = "bench.large"
COUNTED: Final = "bench.counted"
REVISED: Final = "revised"

_REFUSED: Final = WorkflowError("https://example.com/errors/refused", 422, "refused", "/do/0/fail")
_FAULTY: Final = b"""\
document: {dsl: 1.0.3, namespace: bench, name: faulty, version: 1.0.0}
webhook: {auth: none}
do:
  - fail: {raise: {error: {type: https://example.com/errors/refused, status: 422, title: refused}}}
"""
_SEARCHED: Final = f"""\
document: {{dsl: 1.0.3, namespace: bench, name: searched, version: 1.0.0}}
webhook: {{auth: none}}
execution:
  search: {{order: .body.order, {", ".join(f"long{number}: .body.pad" for number in range(1, ATTRIBUTES))}}}
do:
  - keep: {{set: {{order: "${{ .body.order }}"}}}}
""".encode()
_COUNTED: Final = f"""\
document: {{dsl: 1.0.3, namespace: bench, name: counted, version: 1.0.0}}
webhook: {{auth: none}}
do:
  - each:
      for: {{each: number, in: "${{ [range({TASKS - 1})] }}"}}
      do:
        - announce: {{emit: {{event: {{with: {{source: https://example.com/, type: com.example.counted}}}}}}}}
""".encode()


def large_document() -> bytes:
    """Return a flow file of the greatest size, with many tasks."""
    head = b"document: {dsl: 1.0.3, namespace: bench, name: large, version: 1.0.0}\nwebhook: {auth: none}\ndo:\n"
    pad = DOCUMENT_BYTES // TASKS - 40
    return head + b"".join(b'  - task%04d: {set: {text: "%s"}}\n' % (number, b"x" * pad) for number in range(TASKS))


async def prepare(path: Path, flows: int, executions: int) -> None:
    """Write into a new database: flows, many revisions of one, and executions that have ended.

    Executing so many would take minutes.
    """
    await register(path, flows)
    storage = await open_storage(path)
    try:
        for number in range(REVISIONS):
            await _apply(
                storage, DOCUMENT.replace(MARK.encode(), REVISED.encode()).replace(b"1.0.0", b"1.0.%d" % number)
            )
        run = (FOLDER / "flow.yaml").read_bytes().replace(b"NAME", b"run")
        revisions = {
            flow_id: await _apply(storage, document)
            for flow_id, document in ((RUN, run), (FAULTY, _FAULTY), (SEARCHED, _SEARCHED))
        }
        log_, state = storage.log, await storage.own()
        for first in range(0, executions, PORTION):
            flow_ids = [*[RUN] * (PORTION * 8 // 10), *[FAULTY] * (PORTION // 10), *[SEARCHED] * (PORTION // 10)]
            appended = await log_.append(
                [_event(flow_id, revisions[flow_id], first + place) for place, flow_id in enumerate(flow_ids)]
            )
            await state.write([_ended(each.seq, flow_id) for each, flow_id in zip(appended, flow_ids, strict=True)])
    finally:
        await storage.close()
    log(f"{executions:,} executions are stored")


async def _apply(storage: Storage, document: bytes) -> int:
    """Apply a flow, and return its revision."""
    parsed = parse(document)
    draft = FlowDraft(parsed.id, document, canonical(parsed.definition), has_webhook=True)
    [(flow, _)] = await storage.registry.apply_flows([draft], now_ms=time.time_ns() // 1_000_000)
    return flow.revision


def _event(flow_id: str, revision: int, number: int) -> NewEvent:
    now_ms = time.time_ns() // 1_000_000
    event_id = ids.mint(ids.slot_of(flow_id))
    searched = flow_id == SEARCHED
    body = json.dumps({"order": number, "pad": PADDING}).encode() if searched else payload()
    event = Event(event_id, flow_id, now_ms, None, "", "POST", f"/hook/{flow_id}", "", "application/json", (), body)
    long = [(f"long{each}", PADDING[:200]) for each in range(1, ATTRIBUTES)]
    return NewEvent(
        event_id,
        flow_id,
        revision,
        now_ms,
        convert.event_to_proto(event).SerializeToString(),
        attributes=(*long, ("order", str(number))) if searched else (),
    )


def _ended(seq: int, flow_id: str) -> Ended:
    now_ms = time.time_ns() // 1_000_000
    if flow_id == FAULTY:
        return Ended(seq, Status.FAULTED, now_ms, 1, error=_REFUSED, runner="runner-1", assign_time_ms=now_ms)
    output = b'{"done":true}'
    return Ended(seq, Status.COMPLETED, now_ms, 1, output, runner="runner-1", assign_time_ms=now_ms)


async def produce(cluster: Cluster) -> None:
    """Produce rejections, executions with a large body and with many tasks, and a job with many executions."""
    client = cluster.client
    await client.secrets.set("bench", secrets.token_bytes(16))
    await client.flows.apply([_COUNTED, large_document()])
    await report_rejections(cluster)
    body = json.dumps(["x" * 1020] * (BODY_BYTES >> 10))
    for flow_id in (FAULTY, FAULTY):
        await client.ingest(flow_id, body)
    for flow_id in (LARGE, LARGE, COUNTED, COUNTED):
        await client.ingest(flow_id, "{}")
    await settled(cluster)
    spec = JobSpec(JobAction.CANCEL, ExecutionFilter(flow_id=FAULTY), rate=MAX_RATE)  # skips all: they have ended
    await client.jobs.create(spec)


async def report_rejections(cluster: Cluster) -> None:
    """Report rejections, as edges do."""
    channel = connect(cluster.grpc, cluster.token("edge"))
    stub = rejection_service_pb2_grpc.RejectionServiceStub(channel)
    now = Timestamp()
    now.GetCurrentTime()
    body = json.dumps({"pad": PADDING}).encode()
    headers = [envelope_pb2.Header(name=f"x-header-{number}", value=b"v" * 60) for number in range(20)]
    try:
        for start in range(0, REJECTIONS, REPORTED):
            rejections = [
                rejection_service_pb2.Rejection(
                    id=f"rej_{number:026d}",
                    flow_id=f"flow-{number % 50}",
                    time=now,
                    status=401,
                    reason="SIGNATURE_MISMATCH" if number % 3 else "TIMESTAMP_STALE",
                    detail="d" * 500,
                    address="192.0.2.1",
                    method="POST",
                    path=f"/hook/flow-{number % 50}",
                    headers=headers,
                    body_size=len(body),
                    body=body,
                )
                for number in range(start, start + REPORTED)
            ]
            await stub.ReportRejections(rejection_service_pb2.ReportRejectionsRequest(rejections=rejections))
    finally:
        await channel.close(None)


async def settled(cluster: Cluster) -> None:
    """Wait until nothing is left to run."""
    while (await cluster.client.executions.page(statuses=UNFINISHED, page_size=1)).items:
        await asyncio.sleep(0.2)
