"""What starts executions, on real storage and step by step: by a clock that is the test's, and by events."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from itertools import count

import orjson
from prometheus_client import CollectorRegistry
from support.effects import CALLER
from support.shards import running_host

from flowhook.document.loader import canonical, parse
from flowhook.wire import convert
from router.flows.admission import AdmissionControl
from router.flows.event_triggers import parse_triggers
from router.flows.flow_table import FlowTable
from router.flows.parsing import InputParser
from router.storage.registry import FlowDraft
from router.triggers.cron_scheduler import CronScheduler
from router.triggers.event_publisher import EventPublisher
from router.triggers.execution_starter import EffectIds, ExecutionStarter
from router.triggers.join_trigger import LOOK_SECONDS, JoinTrigger
from router.triggers.silence_watch import SilenceWatch

NOON = 1_795_521_600_000
"""2026-11-24T12:00Z."""

_NUMBERS = count()


class Triggers:
    """A router as far as flows are started by time and by events. Nothing happens by itself."""

    def __init__(self, shard, flows, cron_scheduler, join_trigger, publisher, *, silence_watch, registry):
        self.shard = shard
        self.flows = flows
        self.cron_scheduler = cron_scheduler
        self.join_trigger = join_trigger
        self.publisher = publisher
        self.silence_watch = silence_watch
        self._registry = registry

    async def apply(self, flow_id, schedule, *, rest="", at_ms=NOON):
        source = (
            f"document: {{dsl: 1.0.3, namespace: default, name: {flow_id}, version: 1.0.0}}\n"
            f"{schedule and f'schedule: {schedule}'}\ndo: [{{keep: {{set: {{a: 1}}}}}}]\n{rest}"
        ).encode()
        document = parse(source)
        reacts = bool(parse_triggers(document.definition))
        draft = FlowDraft(document.id, source, canonical(document.definition), has_webhook=False, reacts=reacts)
        await self.shard.storage.registry.apply_flows([draft], now_ms=at_ms)
        await self.flows.catch_up()

    async def delete(self, flow_id):
        await self.shard.storage.registry.delete_flow(flow_id)
        await self.flows.catch_up()

    async def turn(self, at_ms):
        """Look at the clock, which shows `at_ms`, and return the flows that were started."""
        self.set_clock(at_ms)
        return [record.flow_id for record in await self._started_by(self.cron_scheduler.turn)]

    async def look(self, at_ms):
        """Look for silent flows by a clock that shows `at_ms`, and return the events of them that started `alerts`."""
        self.set_clock(at_ms)
        started = await self._started_by(self.silence_watch.turn)
        return [orjson.loads(await self.input_of(each))[0] for each in started if each.flow_id == "alerts"]

    async def emit(self, *events):
        """Emit events, each another one, put together what came, and return the inputs of what was started by it."""
        before = {record.seq for record in await self.executions()}
        for event in events:
            await self.publish(event, f"{CALLER}:{next(_NUMBERS)}")
        started = await self._started_by(self.join_trigger.turn, before)
        return [orjson.loads(await self.input_of(record)) for record in started]

    async def publish(self, event, key):
        """Emit an event, and return how many flows got it."""
        return await self.publisher.publish(orjson.dumps(event), EffectIds(key, CALLER))

    async def input_of(self, record):
        return convert.event_from_bytes((await self.shard.state.content(record.seq)).payload).body

    async def _started_by(self, turn, before=None):
        before = {record.seq for record in await self.executions()} if before is None else before
        await turn()
        return sorted((record for record in await self.executions() if record.seq not in before), key=_flow_and_seq)

    def scheduled(self, result):
        """Return how many flows that were due had this result."""
        return self._registry.get_sample_value("flowhook_router_scheduled_total", {"result": result})

    def set_clock(self, at_ms):
        self.shard.wall.stop(at_ms / 1000)

    async def executions(self):
        return (await self.shard.state.list_executions()).records


def _flow_and_seq(record):
    return record.flow_id, record.seq


@asynccontextmanager
async def triggers(path, *, at_ms=NOON, total_backlog=1000, look_seconds=LOOK_SECONDS):
    registry = CollectorRegistry()
    async with running_host(path, ahead=at_ms / 1000 - time.time(), registry=registry) as shard:
        host = shard.host
        flows = FlowTable(shard.storage.registry, policies=host, clock=shard.clock)
        parser = InputParser()  # starts no process for bodies that are small
        admission = AdmissionControl(runtime=host, flows=flows, parser=parser, total_backlog=total_backlog)
        starter = ExecutionStarter(host.parts, admission)
        cron_scheduler = CronScheduler(host.parts, starter)
        join_trigger = JoinTrigger(host.parts, host.events, starter, look_seconds=look_seconds)
        publisher = EventPublisher(host.parts, host.events, join_trigger, starter)
        await cron_scheduler.recover()
        silence_watch = SilenceWatch(host.parts, shard.storage.silences, publisher, at_ms)
        await flows.start({}, [cron_scheduler, publisher, silence_watch])
        starting = (cron_scheduler, join_trigger, publisher)
        yield Triggers(shard, flows, *starting, silence_watch=silence_watch, registry=registry)
