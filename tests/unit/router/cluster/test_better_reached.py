"""When an owner hands over because it is not reached: the decision for every small cluster, and the time around it."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from router.cluster.ownership import (
    CUT_OFF_SECONDS,
    EXPIRE_SECONDS,
    HEIR_SECONDS,
    MAX_YIELDS,
    MIN_WITNESSES,
    TENURE_SECONDS,
    YIELDS_SECONDS,
    Ownership,
    Standby,
    better_reached,
)
from router.cluster.reachability import Voices
from router.cluster.records import MemberState, RouterRecord, Unreachable

LOOK = 0.1
CLIENTS = range(4)


def decide(owner, standbys, *, standbys_reach_owner=True):
    """Decide by who reaches whom: sets of clients for the owner and for each standby.

    All clients report to whom they reach, whether they reach the owner or not.
    """
    copies = [
        Standby(name, len(reached), len(reached - owner), standbys_reach_owner) for name, reached in standbys.items()
    ]
    return better_reached(Voices(len(owner), 0), copies)


@cases("standbys_reach_owner", [True, False])
@cases("count", CLIENTS)
def test_the_shard_moves_only_to_a_standby_that_most_reach_and_away_from_an_owner_that_most_do_not(
    count, standbys_reach_owner
):
    clients = frozenset(range(count))
    subsets = [frozenset(each for each in clients if bits >> each & 1) for bits in range(2**count)]
    for owner, first, second in product(subsets, repeat=3):
        standbys = {"b": first, "c": second}
        chosen = decide(owner, standbys, standbys_reach_owner=standbys_reach_owner)
        reporting = owner | first | second
        if chosen:
            assert 2 * len(owner) < len(reporting)
            assert len(standbys[chosen]) > len(owner)
            assert 2 * len(standbys[chosen]) > len(owner | standbys[chosen])
            assert len(reporting - owner) >= (MIN_WITNESSES if standbys_reach_owner else 1)
        elif not owner and max(map(len, standbys.values())) >= MIN_WITNESSES:
            raise AssertionError(f"nobody reaches the owner, and yet it stays: {standbys}")


def test_one_process_never_moves_the_shard_unless_a_router_confirms_it():
    edge, runner = {"edge"}, {"runner"}
    assert not decide(runner, {"b": edge | runner})  # the edge's network is bad
    assert not decide(runner, {"b": edge | runner}, standbys_reach_owner=False)
    assert not decide(set(), {"b": edge})
    assert decide(set(), {"b": edge}, standbys_reach_owner=False) == "b"
    assert decide(set(), {"b": edge | runner}) == "b"


def test_an_owner_stays_as_long_as_no_standby_is_reached():
    assert not better_reached(Voices(0, 5), [])
    assert not better_reached(Voices(0, 5), [Standby("b", 0, 0, reaches_owner=False)])


def test_the_standby_that_most_reach_is_chosen():
    standbys = [Standby("b", 2, 2, reaches_owner=True), Standby("c", 3, 3, reaches_owner=True)]
    assert better_reached(Voices(0, 0), standbys) == "c"


counts = st.integers(0, 10)


@given(
    st.builds(Voices, counts, counts),
    st.lists(st.builds(Standby, st.text("bcd", min_size=1), counts, counts, st.booleans())),
)
def test_an_owner_that_is_reached_by_more_than_are_cut_off_stays(voices, standbys):
    chosen = better_reached(voices, standbys)
    cut_off = max([voices.cut_off, *(each.cut_off for each in standbys)])
    if voices.reach >= cut_off:
        assert not chosen
    if chosen:
        assert max(each.reach for each in standbys if each.router == chosen) > voices.reach


def record(router="b", *, epoch=1, reach=3, cut_off=3, candidate=True, **fields):
    return RouterRecord(
        router,
        f"{router}:1",
        "1",
        MemberState.FOLLOWING,
        epoch,
        0,
        9,
        candidate,
        reach=reach,
        cut_off=cut_off,
        **fields,
    )


class Owner:
    """An owner that hears standbys and looks every 0.1 s."""

    def __init__(self, epoch=1):
        self.machine = Ownership("a", 0.0)
        self.now = 0.0
        self.serve(epoch)

    def serve(self, epoch):
        self.machine.follows(current=True, epoch=0, now=self.now)
        while not self.machine.due(self.now):
            self.now += LOOK
        self.machine.claimed(epoch)
        self.machine.ready()

    def look(self, seconds, *records):
        """Return the successor that was due first, None: there was none."""
        end = self.now + seconds
        while self.now < end:
            self.now += LOOK
            for each in records:
                self.machine.heard(each, self.now)
            if successor := self.machine.due_successor(self.now):
                return successor
        return None


def test_an_owner_that_is_cut_off_hands_over_after_a_while_and_not_before():
    owner = Owner()
    start = owner.now
    assert owner.look(60.0, record()) == "b"
    assert owner.now - start >= max(CUT_OFF_SECONDS, TENURE_SECONDS)
    owner.machine.hand_over("b", owner.now)
    assert (owner.machine.state, owner.machine.successor) == (MemberState.HANDING_OVER, "b")
    owner.machine.done(owner.now)
    assert owner.machine.yielded == 1


def test_it_waits_for_its_successor_before_it_claims_again():
    owner = Owner()
    owner.machine.hand_over("b", owner.now)
    owner.machine.done(owner.now)
    handed_over = owner.now
    owner.machine.follows(current=True, epoch=1, now=owner.now)
    while not owner.machine.due(owner.now):
        owner.now += LOOK
    assert owner.now - handed_over >= EXPIRE_SECONDS + HEIR_SECONDS


def test_it_must_be_cut_off_all_the_time():
    owner = Owner()
    for _ in range(20):
        assert owner.look(CUT_OFF_SECONDS / 2, record()) is None
        assert owner.look(CUT_OFF_SECONDS / 2, record(cut_off=0)) is None


@pytest.mark.parametrize(
    "standby",
    [record(candidate=False), record(epoch=0), record(reach=0), record(cut_off=0)],
    ids=["not caught up", "speaks of another owner", "not reached", "nobody is cut off"],
)
def test_it_stays_without_a_standby_that_is_better(standby):
    assert Owner().look(120.0, standby) is None


def test_a_standby_that_is_silent_is_none():
    owner = Owner()
    owner.look(1.0, record())
    owner.look(EXPIRE_SECONDS)
    assert owner.look(120.0) is None


def test_the_shard_does_not_move_all_the_time():
    owner = Owner()
    for epoch in range(2, 2 + MAX_YIELDS):
        assert owner.look(120.0, record(epoch=owner.machine.epoch)) == "b"
        owner.machine.hand_over("b", owner.now)
        owner.machine.done(owner.now)
        owner.now += HEIR_SECONDS
        owner.serve(epoch)
    assert owner.look(YIELDS_SECONDS / 2, record(epoch=owner.machine.epoch)) is None
    assert owner.look(YIELDS_SECONDS, record(epoch=owner.machine.epoch)) == "b"


def candidates(*names):
    machines = {name: Ownership(name, 0.0) for name in names}
    for machine in machines.values():
        machine.follows(current=True, epoch=1, now=0.0)
    return machines


def owning(router="a", epoch=1, state=MemberState.SERVING, **fields):
    return RouterRecord(router, f"{router}:1", "1", state, epoch, 0, 9, candidate=False, **fields)


def announce(machine):
    return record(
        machine.router, epoch=machine.epoch, reach=machine.voices.reach, cut_off=0, candidate=machine.candidate
    )


def claims_first(machines, now, end):
    """Return who claims first when all hear each other."""
    while now < end:
        now += LOOK
        for machine in machines.values():
            for other in machines.values():
                machine.heard(announce(other), now)
        for name, machine in machines.items():
            if machine.due(now):
                return name
    return None


@pytest.mark.parametrize("heir", ["b", "c"])
def test_the_successor_claims_before_the_others(heir):
    machines = candidates("b", "c")
    for machine in machines.values():
        machine.heard(owning(), 1.0)
        machine.heard(
            RouterRecord("a", "a:1", "1", MemberState.FOLLOWING, 1, 1, 9, candidate=True, successor=heir), 1.1
        )
    assert claims_first(machines, 1.1, 10.0) == heir


@pytest.mark.parametrize("reached", ["b", "c"])
def test_a_standby_that_edges_and_runners_reach_claims_before_one_that_they_do_not(reached):
    machines = candidates("b", "c")
    machines[reached].voices = Voices(4, 0)
    assert claims_first(machines, 0.0, 10.0) == reached


def test_a_router_that_hears_that_the_owner_is_not_reached_counts_it_only_for_that_owner():
    owner = Owner(epoch=2)
    confirming = record(epoch=2, reach=1, cut_off=1, unreachable=(Unreachable("a", "b", "connection refused"),))
    assert owner.look(60.0, confirming) == "b"
    stranger = record(epoch=2, reach=1, cut_off=1, unreachable=(Unreachable("c", "b", "connection refused"),))
    assert Owner(epoch=2).look(60.0, stranger) is None
