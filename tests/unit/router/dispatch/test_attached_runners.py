"""Attached runners: one stream each, renewed while a report is stored, sent what concerns their leases."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from support.cores import LEASE, accept, attach, make_shard
from support.shards import Link

from flowhook.attach.messages import EventDelivery
from flowhook.events.lifecycle import FROM_RUNNERS
from flowhook.model import JournalEntry
from router.dispatch.effects import SEND_WANTED_TYPES, EffectQueue
from router.dispatch.flow_statistics import FlowStatisticsCounter
from router.dispatch.metrics import RouterMetrics
from router.dispatch.runners import AttachedRunners
from router.dispatch.state_writer import LifecycleOutbox, RetryingWriter

WANTED = frozenset(sorted(FROM_RUNNERS)[:1])


class Runners:
    """Attached runners over a scheduling core with one leased execution, of "r1"."""

    def __init__(self):
        self.now = 0.0
        self.core = make_shard()
        attach(self.core)
        accept(self.core, "a", 1)
        (granted,) = self.core.assign()
        self.lease = self.core.leases.get(granted.token)
        self.effects = EffectQueue()
        self.outbox = LifecycleOutbox(lambda: 0, by_executions=set(), effects=self.effects)
        self.attached = AttachedRunners(
            shard=self.core,
            outbox=self.outbox,
            writer=RetryingWriter(None, self.outbox),
            metrics=RouterMetrics(CollectorRegistry(), FlowStatisticsCounter(0)),
            clock=lambda: self.now,
        )
        self.runner = Link("r1")
        self.attached.add(self.runner)


@pytest.fixture
async def runners():
    return Runners()


async def test_a_later_stream_supersedes_an_earlier_one_of_the_same_runner(runners):
    later = Link("r1")
    assert runners.attached.remove("r1") is runners.runner
    assert not runners.attached.is_superseded(runners.runner)
    runners.attached.add(later)
    assert runners.attached.is_superseded(runners.runner)
    assert (runners.runner in runners.attached, later in runners.attached, len(runners.attached)) == (False, True, 1)


async def test_only_the_latest_stream_renews_leases(runners):
    runners.now = 1.0
    assert runners.attached.renew(runners.runner)
    assert runners.core.next_deadline() == 2.0  # of executions held for runners to reattach
    assert runners.core.expire(2.0) == ([], [])
    assert runners.core.next_deadline() == 1.0 + LEASE
    assert not runners.attached.renew(Link("r1"))


async def test_a_runner_is_renewed_while_its_report_is_stored_and_when_it_is(runners):
    with runners.attached.storing(runners.runner):
        assert runners.attached.is_storing
        runners.now = LEASE - 1
        runners.attached.renew_storing()
        assert runners.core.runners.silent(LEASE) == []
        assert runners.core.expire(LEASE).losses == []
        runners.now = LEASE
    assert not runners.attached.is_storing
    assert runners.core.next_deadline() == 2 * LEASE


async def test_a_delivery_goes_to_the_runner_that_has_the_lease(runners):
    delivery = EventDelivery(runners.lease.token, 1, 7, JournalEntry("/do/0#0", b"1"))
    runners.attached.deliver(delivery)
    runners.attached.deliver(delivery._replace(lease=b"stale"))
    assert runners.runner.arrivals == [delivery]
    runners.attached.remove("r1")
    runners.attached.deliver(delivery)
    assert runners.runner.arrivals == [delivery]


async def test_a_lease_is_revoked_at_the_runner_that_had_it(runners):
    runners.attached.revoke(runners.lease, "LEASE_LOST")
    assert runners.runner.revoked == [(runners.lease.token, "LEASE_LOST")]


async def test_runners_are_sent_the_wanted_types_when_these_change_and_when_they_attach(runners):
    runners.outbox.set_wanted_by_flows(WANTED)
    assert await runners.effects.next() == [SEND_WANTED_TYPES]
    runners.attached.send_wanted_types()
    runners.attached.send_wanted_types()
    late = Link("r2")
    runners.attached.add(late)
    assert (runners.runner.wanted, late.wanted) == ([WANTED], [WANTED])
