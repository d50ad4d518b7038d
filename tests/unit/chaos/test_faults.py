"""Faults are made in rounds, each after the recovery from the last one; each is known to concern some runners."""

import asyncio
import random
import signal
from collections import Counter
from itertools import pairwise

from support.cases import cases
from support.patience import until

from chaos.cluster import RUNNERS
from chaos.faults import KILL, Aim, FaultInjector, InjectedFault, Pace

FOREVER = 3600


class Cluster:
    """A cluster in which nothing happens."""

    routers = ("router-1",)
    processes = ("router-1", "edge-1", "edge-2", *RUNNERS, "admin-1")

    def __init__(self):
        self.signals = []
        self._ended = Counter()
        self._looks = Counter()

    def pid(self, process):
        """Return another ID after a process was to end, at the second look."""
        self._looks[process] += 1
        return 1 + self._ended[process] if self._looks[process] > 2 else self._ended[process]

    def signal(self, process, number):
        self.signals.append(process)
        self._ended[process] += number in (signal.SIGKILL, signal.SIGTERM)
        self._looks[process] = 0
        return True

    def kill_children(self, process):
        return self.signal(process, None)

    async def owner(self):
        return "router-1"


async def rounds(*, aim=None, together=0.0, looks=3):
    """Make some rounds of faults without pauses, each of which takes some looks to recover from."""
    cluster, looked = Cluster(), []

    def has_recovered(since):
        looked.append(since)
        return len(looked) % looks == 0

    injector = FaultInjector(
        cluster, random.Random(5), lambda line: None, has_recovered=has_recovered, aim=aim,
        pace=Pace(quiet_seconds=(0, 0), apart_seconds=0, together=together, look_seconds=0),
    )  # fmt: skip
    running = asyncio.create_task(injector.run(FOREVER))
    await until(lambda: len(injector.faults) > 5 and injector.faults[-1].recovered)
    running.cancel()
    await asyncio.wait({running})
    return cluster, [fault for fault in injector.faults if fault.recovered], len(looked)


KILLS = Aim(frozenset({KILL}), frozenset({"runner-1", "edge-1"}))


async def test_no_round_begins_before_the_cluster_has_recovered_from_the_last_one():
    _, faults, looked = await rounds(aim=KILLS)
    assert looked // 3 == len(faults) + 1  # once before the first one
    for fault, later in pairwise(faults):
        assert fault.ended <= fault.recovered <= later.began


async def test_an_aim_leaves_only_its_kinds_and_targets():
    cluster, faults, _ = await rounds(aim=KILLS)
    assert {fault.kind for fault in faults} == {KILL}
    assert set(cluster.signals) <= KILLS.targets


async def test_several_faults_are_made_at_once():
    kinds = frozenset({KILL, "SIGTERM", "kill -9 of a runner's child"})
    _, faults, _ = await rounds(aim=Aim(kinds, frozenset({"runner-1"})), together=1.0)
    assert len({fault.recovered for fault in faults}) < len(faults)


@cases(
    ("target", "runner", "expected"),
    [
        ("runner-1", "runner-1", True),
        ("runner-2", "runner-1", False),
        ("runner-2", "", True),
        ("edge-1", "runner-1", False),
        ("admin-1", "", False),
        ("router-1", "runner-1", True),
        ("nats-1 and nats-2", "runner-1", True),
        ("everything", "runner-1", True),
    ],
)
def test_a_fault_concerns_its_own_runner_and_all_of_the_router_and_the_storage(target, runner, expected):
    assert InjectedFault(KILL, target, 1.0, 1.0).hits(runner) == expected


def test_a_fault_lasts_until_the_cluster_has_recovered():
    fault = InjectedFault("SIGSTOP", "runner-1", 2.0, 3.0, recovered=4.0)
    assert [fault.lasts_at(*each) for each in ((1.0, 1.9), (1.0, 2.1), (3.5, 3.6), (4.1, 5.0))] == [
        False, True, True, False,
    ]  # fmt: skip
    assert InjectedFault("SIGSTOP", "runner-1", 2.0, 3.0).lasts_at(9.0, 9.1)
