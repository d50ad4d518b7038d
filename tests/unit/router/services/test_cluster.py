"""Which routers are shown beside the owner, and for how long."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from support.clocks import Clock

from flowhook.errors import ConflictError, NotFoundError
from flowhook.sharing.table import RouterLimits
from router.cluster.ownership import KnownOwner
from router.cluster.records import MemberState, RouterRecord
from router.cluster.shard_map import ShardSituation
from router.reports.processes import ALIVE_SECONDS, FORGET_SECONDS
from router.services.cluster import ClusterService

OWNER = RouterRecord("r1", "a:1", "1", MemberState.SERVING, 1, 0, 5, candidate=False)
STANDBY = replace(OWNER, router="r2", state=MemberState.FOLLOWING, candidate=True)


class Cluster:
    """The service of the owner, which has heard another router at some time."""

    def __init__(self):
        self.clock = Clock()
        self.record, self.heard = STANDBY, self.clock.now
        self.service = ClusterService(
            process_state=None,
            parts=SimpleNamespace(limits=RouterLimits(), clock=lambda: self.clock.now),
            total_backlog=1,
            usage=None,
            situation=self.situation,
        )

    def situation(self):
        copies = [(OWNER, 0.0), (self.record, self.clock.now - self.heard)]
        return ShardSituation(KnownOwner("r1", "a:1", 1, True), copies)

    def shown(self):
        return [process.name for process in self.service._standbys(bare=True)]


@pytest.fixture
def cluster():
    return Cluster()


def test_a_router_that_ended_in_order_is_shown_for_a_minute(cluster):
    cluster.record = replace(STANDBY, stopping=True)
    cluster.clock.now += FORGET_SECONDS - 1
    assert cluster.shown() == ["r2"]
    cluster.clock.now += 1
    assert cluster.shown() == []


def test_a_router_that_died_is_shown_until_it_is_dismissed(cluster):
    cluster.clock.now += 30 * 86_400
    assert cluster.shown() == ["r2"]


def test_a_router_that_died_is_dismissed_until_it_is_heard_again(cluster):
    with pytest.raises(ConflictError):
        cluster.service.dismiss("r2")
    cluster.clock.now += ALIVE_SECONDS
    cluster.service.dismiss("r2")
    for _ in range(3):
        cluster.clock.now += 60
        assert cluster.shown() == []
    with pytest.raises(NotFoundError):
        cluster.service.dismiss("r2")
    cluster.heard = cluster.clock.now
    assert cluster.shown() == ["r2"]
