"""Who gives way when there is no room for another connection."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from support.clocks import Clock

from flowhook.http.open_connections import LOOK_SECONDS, MAX_CANDIDATES, NEVER, OpenConnections

ONE, OTHER, PROXY = map(ip_address, ("192.0.2.1", "192.0.2.2", "10.0.0.1"))


@dataclass(eq=False)
class StubConnection:
    waiting_since: float
    address: object = ONE
    idle: bool = True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(clock):
    def make_them(*, most=3, most_of_one=3, connections=()):
        them = OpenConnections(most=most, most_of_one=most_of_one, shared=lambda address: address == PROXY, now=clock)
        for connection in connections:
            them.add(connection)
        return them

    return make_them


def test_as_long_as_there_is_room_nobody_gives_way(make):
    assert make(connections=[StubConnection(1.0)] * 2).check_room(ONE) == (True, None)


def test_the_one_gives_way_that_has_been_idle_longest(make):
    connections = [StubConnection(3.0), StubConnection(2.0, OTHER), StubConnection(NEVER)]
    assert make(connections=connections).check_room(OTHER) == (False, connections[1])


def test_a_head_that_is_not_complete_gives_way_after_all_that_are_idle(make):
    connections = [StubConnection(1.0, idle=False), StubConnection(2.0), StubConnection(NEVER)]
    them = make(connections=connections)
    assert them.check_room(OTHER) == (False, connections[1])
    them.discard(connections[1])
    them.add(StubConnection(NEVER))
    assert them.check_room(OTHER) == (False, connections[0])


def test_where_a_request_is_under_way_on_each_none_gives_way(make):
    assert make(connections=[StubConnection(NEVER) for _ in range(3)]).check_room(OTHER) == (False, None)


def test_an_address_at_its_limit_displaces_its_own(make):
    connections = [StubConnection(1.0, OTHER), StubConnection(2.0), StubConnection(3.0)]
    them = make(most=100, most_of_one=2, connections=connections)
    assert them.check_room(ONE) == (False, connections[1])
    assert them.check_room(OTHER) == (True, None)


def test_a_network_of_ipv6_is_one_address(make):
    connections = [StubConnection(number, ip_address(f"2001:db8::{number}")) for number in (1, 2)]
    them = make(most=100, most_of_one=2, connections=connections)
    assert them.check_room(ip_address("2001:db8::ffff:3")) == (False, connections[0])
    assert them.check_room(ip_address("2001:db8:0:1::1")) == (True, None)


def test_an_address_that_many_share_has_no_limit_of_its_own(make):
    them = make(most=3, most_of_one=1, connections=[StubConnection(NEVER, PROXY), StubConnection(2.0, PROXY)])
    assert them.check_room(PROXY) == (True, None)


@pytest.mark.parametrize("change", [{"waiting_since": NEVER}, {"idle": False}], ids=["request", "head"])
def test_whoever_was_found_idle_and_is_no_longer_stays(make, change):
    connections = [StubConnection(float(number), ip_address(number)) for number in range(1, 4)]
    them = make(connections=connections)
    assert them.check_room(ONE) == (False, connections[0])
    for name, value in change.items():
        setattr(connections[1], name, value)
    assert them.check_room(ONE) == (False, connections[2])


@pytest.mark.parametrize(("most", "address"), [(2 * MAX_CANDIDATES, OTHER), (1_000_000, ONE)], ids=["all", "of one"])
def test_a_flood_does_not_make_a_look_at_all_of_each(make, clock, most, address):
    class Counted(StubConnection):
        looks = 0

        def __getattribute__(self, name):
            if name == "waiting_since":
                Counted.looks += 1
            return super().__getattribute__(name)

    count = 2 * MAX_CANDIDATES
    them = make(most=most, most_of_one=count, connections=[Counted(float(number)) for number in range(count)])
    for _ in range(MAX_CANDIDATES):
        room, other = them.check_room(address)
        assert not room
        them.discard(other)
        them.add(Counted(NEVER))
    assert them.check_room(address) == (False, None)
    assert Counted.looks < 6 * count
    clock.now += LOOK_SECONDS * count
    assert them.check_room(address)[1].waiting_since == MAX_CANDIDATES


def test_those_that_are_gone_leave_nothing(make):
    connection = StubConnection(1.0)
    them = make(most=1, connections=[connection])
    them.discard(connection)
    them.discard(connection)
    assert not them
    assert them.check_room(ONE) == (True, None)
