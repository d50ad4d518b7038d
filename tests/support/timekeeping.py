"""A timekeeper on real storage whose clock is the test's, with flows that have schedules."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager

from support.shards import running_host

from flowhook import metrics
from flowhook.document import canonical, parse
from router.flows import FlowTable
from router.metrics import RouterMetrics
from router.reactions.definition import reactions_of
from router.services.acceptance import Acceptance
from router.storage.interface import FlowDraft
from router.triggers.starter import Starter
from router.triggers.timekeeper import Timekeeper

NOON = 1_795_521_600_000
"""2026-11-24T12:00Z."""


class Timekeeping:
    """A router as far as flows are started by time. `turn` is one look at the clock; `at` sets it."""

    def __init__(self, shard, flows, timekeeper):
        self.shard = shard
        self.flows = flows
        self.timekeeper = timekeeper
        self.metrics = timekeeper._metrics

    async def apply(self, flow_id, schedule, *, rest="", at_ms=NOON):
        source = (
            f"document: {{dsl: 1.0.3, namespace: default, name: {flow_id}, version: 1.0.0}}\n"
            f"{schedule and f'schedule: {schedule}'}\ndo: [{{keep: {{set: {{a: 1}}}}}}]\n{rest}"
        ).encode()
        document = parse(source)
        reacts = bool(reactions_of(document.definition))
        draft = FlowDraft(document.id, source, canonical(document.definition), has_webhook=False, reacts=reacts)
        await self.shard.storage.registry.apply_flows([draft], now_ms=at_ms)
        await self.flows.catch_up()

    async def delete(self, flow_id):
        await self.shard.storage.registry.delete_flow(flow_id)
        await self.flows.catch_up()

    async def turn(self, at_ms):
        """Look at the clock, which shows `at_ms`, and return the flows that were started."""
        before = {record.seq for record in await self.executions()}
        self.shard.wall.ahead = at_ms / 1000 - time.time()
        await self.timekeeper.turn()
        return sorted(record.flow_id for record in await self.executions() if record.seq not in before)

    async def executions(self):
        return await self.shard.state.list_executions()


@asynccontextmanager
async def timekeeping(path, *, at_ms=NOON, total_backlog=1000):
    async with running_host(path) as shard:
        shard.wall.ahead = at_ms / 1000 - time.time()
        host = shard.host
        flows = FlowTable(shard.storage.registry, policies=host, clock=shard.clock)
        acceptance = Acceptance(host=host, flows=flows, total_backlog=total_backlog, clock=shard.clock)
        now_ms = host._now_ms
        starter = Starter(host=host, state=shard.state, acceptance=acceptance, now_ms=now_ms)
        timekeeper = Timekeeper(
            host=host,
            state=shard.state,
            starter=starter,
            metrics=RouterMetrics(metrics.new_registry()),
            now_ms=now_ms,
        )
        await timekeeper.recover()
        await flows.start({}, [timekeeper])
        yield Timekeeping(shard, flows, timekeeper)
