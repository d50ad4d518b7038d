from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.errors import ExhaustedError, UnavailableError
from flowhook.sharing import Limit, Principal, SharedLimit
from flowhook.sharing.limit import network_of

A, B, C = (Principal("token", name) for name in "abc")
EDGE = Principal("token", "edge", essential=True)


def limit_of(total, **options):
    names = {"counts": "streams", "per": "tokens", "reason": "TOO_MANY_STREAMS", "full": "STREAMS_FULL"}
    return Limit(**names, total=total, **options)


def fill(shared, principal):
    """Let a principal acquire all it gets; return its seats and the error that ends it."""
    seats = []
    while True:
        try:
            seats.append(shared.acquire(principal))
        except (ExhaustedError, UnavailableError) as error:
            return seats, error


def test_one_principal_gets_its_part_and_is_told_so():
    shared = SharedLimit(limit_of(100, retry_after=7))
    seats, error = fill(shared, A)
    assert len(seats) == shared.used == shared._held[A] == 25
    assert (type(error), error.reason, error.retry_after) == (ExhaustedError, "TOO_MANY_STREAMS", 7)
    assert error.message == ("too many streams of one token, which has its share of 100: end some, or try again in 7 s")


def test_a_principal_that_holds_nothing_gets_a_seat_beside_any_number_of_greedy_ones():
    shared = SharedLimit(limit_of(100))
    for each in range(10):
        fill(shared, Principal("token", str(each)))
    assert shared.used < 100
    shared.acquire(B)


def test_the_last_seat_is_for_one_that_holds_none():
    shared = SharedLimit(limit_of(3))
    shared.acquire(A)
    shared.acquire(B)
    with pytest.raises(ExhaustedError):
        shared.acquire(A)
    shared.acquire(C)
    with pytest.raises(UnavailableError) as refused:
        shared.acquire(Principal("token", "d"))
    assert refused.value.reason == "STREAMS_FULL"
    assert refused.value.message == "no room for more streams: there may be 3; try again in 5 s"


def test_a_reserve_is_for_essential_principals_only():
    shared = SharedLimit(limit_of(10, parts=1, reserved=4))
    assert len(fill(shared, A)[0]) == 6
    assert isinstance(fill(shared, B)[1], UnavailableError)
    seats, error = fill(shared, EDGE)
    assert len(seats) == 4
    assert isinstance(error, UnavailableError)


def test_an_essential_principal_has_a_share_too():
    shared = SharedLimit(limit_of(10, reserved=4))
    seats, error = fill(shared, EDGE)
    assert len(seats) == 5
    assert isinstance(error, ExhaustedError)
    shared.acquire(A)


def test_a_share_that_is_the_whole_is_used_when_there_is_no_room():
    shared = SharedLimit(limit_of(10, reserved=4, essential_parts=1))
    seats, error = fill(shared, EDGE)
    assert len(seats) == 10
    assert isinstance(error, UnavailableError)


def test_a_released_seat_is_free_again_and_only_once():
    shared = SharedLimit(limit_of(4))
    with shared.acquire(A) as seat:
        assert not shared.has_room(A)
        seat.release()
        assert shared.has_room(A)
        shared.acquire(A)
    assert shared.used == 1


def test_a_seat_is_resized_within_the_share():
    shared = SharedLimit(limit_of(100))
    seat = shared.acquire(A, 10)
    seat.resize(25)
    with pytest.raises(ExhaustedError):
        seat.resize(26)
    assert (seat.size, shared._held[A]) == (25, 25)
    seat.resize(3)
    assert (seat.size, shared._held[A], shared.used) == (3, 3, 3)
    seat.release()
    assert shared.used == shared._held[A] == 0
    seat.resize(1)
    assert shared.used == 0


def test_what_exceeds_the_share_of_an_empty_limit_is_never_accepted():
    shared = SharedLimit(limit_of(100))
    with pytest.raises(ExhaustedError):
        shared.acquire(A, 26)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30), st.booleans()), max_size=100))
def test_no_sequence_exceeds_the_total_or_takes_the_reserve_or_leaves_anything_behind(steps):
    shared = SharedLimit(limit_of(100, reserved=20))
    seats = []
    for number, size, releases in steps:
        principal = Principal("token", str(number), essential=number == 0)
        if releases and seats:
            seats.pop(number % len(seats)).release()
            continue
        try:
            seats.append(shared.acquire(principal, size))
        except ExhaustedError:
            assert size > 0
        except UnavailableError:
            assert shared.free(essential=principal.essential) < size
        held = [sum(seat.size for seat in seats if seat.principal.name == str(each)) for each in range(6)]
        assert sum(held) == shared.used <= 100
        assert sum(held[1:]) <= 80
        assert max(held[1:]) <= 20
        assert held[0] <= 50
    for seat in seats:
        seat.release()
    assert shared.used == shared._held[A] == 0
    assert shared.free(essential=False) == 80


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_addresses_of_one_network_of_ipv6_have_one_owner(one, other, same):
    assert (network_of(ip_address(one)) == network_of(ip_address(other))) is same
