"""Queue depths and ages by flow, as they are read when metrics are collected."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from support.clocks import Clock
from support.cpu import cpu_seconds

from flowhook.process.metric_table import MAX_FLOWS, OTHER
from router.dispatch.flow_statistics import FlowStatisticsCounter
from router.dispatch.queue_readings import SCANNED, QueueReadings
from router.scheduling.queues import FlowPolicy
from router.scheduling.rates import RatePolicy
from router.scheduling.shard import Shard
from router.storage.model import LoggedEvent, NewEvent

ENOUGH = 0.25  # seconds that one reading may take at most, on a slow machine; it takes some 3 ms


class World:
    """A scheduling core with metrics, and their readings."""

    def __init__(self):
        self.clock = Clock()
        self.shard = Shard(epoch=1, lease_seconds=10.0, max_attempts=5, reattach_seconds=2.0)
        self.statistics = FlowStatisticsCounter(0)
        parts = SimpleNamespace(shard=self.shard, statistics=self.statistics, clock=lambda: self.clock.now)
        self.readings = QueueReadings(parts)
        self.seq = 0

    def accept(self, flow, *, counted=True):
        self.seq += 1
        self.statistics.times.add(self.seq, self.clock.now)
        self.shard.accept(self.seq, flow)
        if counted:
            event = NewEvent(f"evt_{self.seq}", flow, 1, 0, b"")
            self.statistics.accepted([LoggedEvent(self.seq, event)], 0, self.clock.now)
        return self.seq

    def read(self):
        return dict(self.readings.depths()), {flow: age for (flow,), age in self.readings.oldest_ages()}


@pytest.fixture
def world():
    return World()


def test_executions_are_counted_by_what_they_do(world):
    world.shard.attach("runner", (), explained=True, now=0.0)
    world.shard.runners.add_credit("runner", 2)
    for _ in range(5):
        world.accept("shop")
    [leased, parked] = world.shard.assign()
    world.shard.park(parked.token)
    world.shard.parked(parked.seq, None)
    world.shard.suspend(5, "shop")
    depths, _ = world.read()
    assert depths == {
        ("shop", "ready"): 2,
        ("shop", "delayed"): 0,
        ("shop", "leased"): 1,
        ("shop", "waiting"): 1,
        ("shop", "suspended"): 1,
    }
    assert leased.seq == 1


def test_the_age_is_that_of_what_is_assigned_next(world):
    world.accept("shop")
    world.clock.now += 5
    world.accept("shop")
    world.clock.now += 2
    assert world.read()[1] == {"shop": 7.0}
    world.clock.now -= 100
    assert world.read()[1] == {"shop": 0.0}


def test_a_backlog_of_before_the_start_is_found_although_its_flow_gets_no_event(world):
    world.accept("stuck", counted=False)
    world.clock.now += 60
    depths, ages = world.read()
    assert (depths["stuck", "ready"], ages["stuck"]) == (1, 60.0)


@pytest.mark.parametrize("policy", [FlowPolicy(paused=True), FlowPolicy(rate=RatePolicy(1, 3600.0))])
def test_what_waits_because_somebody_wants_it_to_has_no_age(world, policy):
    """Or the alert on the age of the queue would wake somebody for it."""
    world.shard.queues.set_policy("slow", policy)
    world.shard.attach("runner", (), explained=True, now=0.0)
    world.shard.runners.add_credit("runner", 2)
    world.accept("slow")
    world.accept("slow")
    world.shard.assign()
    world.clock.now += 60
    assert world.read()[1] == {"slow": 0.0}


def test_with_100_000_flows_a_reading_is_bounded_and_the_oldest_of_the_others_is_found(world):
    for number in range(MAX_FLOWS):
        world.accept(f"busy-{number}")
    oldest = world.accept("oldest", counted=False)
    world.clock.now += 1000
    for number in range(100_000):
        world.accept(f"flow-{number}", counted=False)

    def read():
        depths, ages = world.read()
        assert len(depths) <= 5 * (MAX_FLOWS + 1)
        assert depths[OTHER, "ready"] == 100_001
        return ages

    assert cpu_seconds(read, ENOUGH) < ENOUGH
    for _ in range(100_000 // SCANNED + 2):
        ages = read()
    assert ages[OTHER] == 1000
    assert world.statistics.times.of(oldest) == world.clock.now - 1000
