"""Fills a storage with executions of every status, and everything that may belong to one."""

from __future__ import annotations

import itertools

from support.body_seats import seat_of

from flowhook import limits
from flowhook.events import ids
from flowhook.model import Correlation, EventFilter, JournalEntry, Status, Subscription, WorkflowError
from flowhook.model.audit import AuditEntry
from flowhook.model.jobs import ItemOutcome, JobItem, JobState
from router.storage.jobs import NewJob
from router.storage.model import (
    Ended,
    Journaled,
    LifecycleRecorded,
    NewEvent,
    NewInboundEvent,
    Parked,
    Replied,
    Resolved,
    Scheduled,
    Started,
    Suspended,
)
from router.storage.registry import FlowDraft
from router.storage.rejections import StoredRejection

FLOWS = ("shop", "bank", "blog")
LARGE = b"payload" * (limits.INLINE_BODY_BYTES // 7 + 1)
ERROR = WorkflowError("https://serverlessworkflow.io/spec/1.0.0/errors/runtime", 500, "Runtime", "/do/0/pay", "no")
LISTENS = (
    Subscription(
        "/do/1/listen#0",
        (EventFilter(True, "approval", (("source", "x"),), (Correlation(".data.order", b'"7"'),)),),
    ),
    Subscription("/do/2/sub#0", execution_id="evt_child"),
)
FUTURE_MS = 2**42
BATCH = 500


def changes(seq, number, time_ms):
    """Return the changes of an execution: which of nine kinds it is follows from its number."""
    journal = [
        Journaled(seq, index, JournalEntry(f"/do/{index}/t#0", b'{"n":%d}' % number), history=b"did it")
        for index in range(2)
    ]
    started = Started(seq, 1, 1)
    match number % 9:
        case 0:
            return []  # pending
        case 1:
            return [started, *journal]  # running
        case 2:
            return [started, *journal, Parked(seq, FUTURE_MS + number, 1, history=b"waits")]
        case 3:
            return [started, Parked(seq, None, 1, LISTENS)]
        case 4:
            return [started, Suspended(seq, 1, 2)]
        case 5:
            return [started, Ended(seq, Status.CANCELLED, time_ms, 1, runner="r1", assign_time_ms=time_ms - 1)]
        case 6:
            faulted = Ended(seq, Status.FAULTED, time_ms, 2, error=ERROR, history=b"failed")
            return [started, *journal, faulted, Resolved(seq, time_ms, f"known {number}")]
        case 7:
            told = LifecycleRecorded(seq, "io.serverlessworkflow.workflow.completed.v1", time_ms, key="k", data=b"{}")
            completed = Ended(seq, Status.COMPLETED, time_ms, 1, output=b'{"ok":true}', runner="r1", assign_time_ms=1)
            return [started, *journal, told, completed]
        case _:
            return [started, Replied(seq, b"reply"), Ended(seq, Status.COMPLETED, time_ms, 1, output=b"[]")]


async def _work_on_job(jobs, stored):
    """Store a job that is at work: the outcome of its first execution is known, that of the second is not."""
    job = await jobs.create(NewJob("job_1", b"spec", 1, expected=2, request_id="r", data=b"data"))
    await jobs.change_state(job.id, JobState.RUNNING, now_ms=2)
    claimed = list(enumerate(stored[:2], 1))
    await jobs.claim(job.number, claimed, cursor=len(claimed), now_ms=3)
    await jobs.settle(job.number, [JobItem(1, stored[0], ItemOutcome.FAILED, "R", "why", "", 4)])


async def populate(storage, count, *, large=2, bodies=2, payload_bytes=200):
    """Store flows, a secret, schedules, rejections, arrivals, a job, and `count` executions; return their IDs.

    Args:
        storage: where.
        count: number of executions beside those with large payloads and bodies.
        large: number of executions with large payloads.
        bodies: number of executions with uploaded bodies; each is replayed once.
        payload_bytes: size of other payloads.
    """
    state, log, clock = await storage.own(), storage.log, itertools.count(1_700_000_000_000)
    drafts = [FlowDraft(flow_id, b"do: []", b'{"do":[]}', has_webhook=True, reacts=False) for flow_id in FLOWS]
    await storage.registry.apply_flows(drafts, now_ms=1)
    await storage.registry.set_secret("key", b"sealed", now_ms=1)
    await storage.rejections.add([StoredRejection(0, "rej_1", "shop", 1, b"rejected")])
    await storage.audit.add(AuditEntry(0, 1, "admin", "FlowService/ApplyFlows", "shop 1", "first", ""))
    await state.write([Scheduled("shop", FUTURE_MS, 5)])

    def event(number, payload=b"", **fields):
        flow_id, now_ms = FLOWS[number % len(FLOWS)], next(clock)
        content = payload or number.to_bytes(8, "big") * (payload_bytes // 8)
        event_id = ids.mint(ids.slot_of(flow_id), now_ms=now_ms)
        return NewEvent(event_id, flow_id, 1, now_ms, content, **fields)

    stored = []
    for start in range(0, count, BATCH):
        events = [
            event(
                number,
                dedupe_key=f"d{number}",
                dedupe_until_ms=FUTURE_MS,
                order_key=f"o{number % 7}",
                attributes=(("order", f"{number}"), ("region", "north")),
            )
            for number in range(start, min(start + BATCH, count))
        ]
        seqs = [appended.seq for appended in await log.append(events)]
        numbered = zip(seqs, itertools.count(start), events, strict=False)
        await state.write([each for seq, n, new in numbered for each in changes(seq, n, new.receive_time_ms + 5)])
        stored += [each.event_id for each in events]
    special = [event(number, LARGE) for number in range(large)]
    for number in range(bodies):
        upload = await storage.bodies.begin(FLOWS[number % len(FLOWS)], None, seat_of(None))
        await upload.write(b"body %d" % number * 1000)
        original = event(number, body=(await upload.finish()).id)
        await log.append([original])
        special += [original, event(number, body=original.body, replay_of=original.event_id)]
    for each in special:
        await log.append([each])
    await log.append_inbound(
        [NewInboundEvent(ids.mint(ids.slot_of("shop")), "shop", True, "approval", 1, b"{}", 2**45)]
    )
    await _work_on_job(storage.jobs, stored)
    return stored + [each.event_id for each in special]
