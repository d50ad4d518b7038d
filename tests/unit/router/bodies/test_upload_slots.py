"""Who gets a place to upload a body in, and who gives way."""

from __future__ import annotations

import pytest
from support.clocks import Clock

from flowhook import limits
from flowhook.errors import ExhaustedError, FlowhookError, UnavailableError
from router.bodies.body_streams import GRACE_SECONDS, PACE_SECONDS, UploadSlots

KIB = limits.KIB


class Crowd:
    """Places of which there are four of each kind, and who was told to give way."""

    def __init__(self, *, most=4, most_bytes=4000 * KIB):
        self.now = Clock()
        self.places = UploadSlots(most=most, most_bytes=most_bytes, now=self.now)
        self.aborted = []

    def take(self, name, *, flow="a", proven=False, sender=None, size=None):
        sender = name if sender is None else sender
        return self.places.allocate(flow, sender, size, proven=proven, give_way=lambda: self.aborted.append(name))


@pytest.fixture
def crowd():
    return Crowd()


def refused(take, *arguments, **keywords):
    with pytest.raises(FlowhookError) as raised:
        take(*arguments, **keywords)
    return type(raised.value), raised.value.reason


def test_proven_and_other_senders_take_nothing_of_each_other(crowd):
    for number in range(4):
        crowd.take(f"{number}")
    for number in range(4):
        crowd.take(f"{number}", proven=True)
    crowd.now.now += 2 * GRACE_SECONDS
    assert refused(crowd.take, "late", proven=True) == (UnavailableError, "UPLOADS_FULL")
    assert crowd.aborted == []
    assert crowd.places.under_way == 8


def test_the_slowest_gives_way(crowd):
    for number, kibibytes in enumerate((40, 4, 400, 40)):
        crowd.places.received(crowd.take(f"{number}"), kibibytes * KIB)
    crowd.now.now += GRACE_SECONDS
    crowd.take("late")
    assert crowd.aborted == ["1"]
    assert crowd.places.under_way == 4


def test_what_arrived_long_ago_makes_up_for_nothing(crowd):
    places = [crowd.take(f"{number}") for number in range(4)]
    crowd.places.received(places[2], 200 * KIB)
    for _ in range(30):
        crowd.now.now += PACE_SECONDS / 5
        for number in (0, 1, 3):
            crowd.places.received(places[number], 1 * KIB)
    crowd.take("late")
    assert crowd.aborted == ["2"]


def test_new_ones_give_way_to_none(crowd):
    for number in range(4):
        crowd.take(f"{number}")
    crowd.now.now += GRACE_SECONDS - 0.1
    assert refused(crowd.take, "late") == (UnavailableError, "UPLOADS_FULL")
    assert crowd.aborted == []


def test_one_that_is_complete_gives_way_to_none(crowd):
    places = [crowd.take(f"{number}") for number in range(4)]
    places[0].abort = None
    crowd.now.now += GRACE_SECONDS
    for number in (1, 2, 3):
        crowd.places.received(places[number], 1 * KIB)
    crowd.take("late")
    assert "0" not in crowd.aborted


def test_an_address_has_few_places_and_gets_them_back():
    crowd = Crowd(most=100)
    held = [crowd.take(f"{number}", sender="one") for number in range(limits.MAX_SENDER_UPLOADS)]
    crowd.now.now += GRACE_SECONDS
    assert refused(crowd.take, "late", sender="one") == (ExhaustedError, "SENDER_UPLOADS_FULL")
    crowd.take("other")
    crowd.places.release(held[0])
    crowd.places.release(held[0])
    crowd.take("late", sender="one")
    assert refused(crowd.take, "later", sender="one") == (ExhaustedError, "SENDER_UPLOADS_FULL")
    assert crowd.aborted == []


def test_senders_whom_nothing_distinguishes_have_no_limit_of_their_own():
    crowd = Crowd(most=2 * limits.MAX_SENDER_UPLOADS)
    for number in range(2 * limits.MAX_SENDER_UPLOADS):
        crowd.take(f"{number}", sender="")


@pytest.mark.parametrize("proven", [True, False])
def test_a_flow_takes_no_more_than_its_own(proven):
    crowd = Crowd(most=100)
    for number in range(limits.MAX_FLOW_UPLOADS):
        crowd.take(f"{number}", proven=proven)
    assert refused(crowd.take, "late", proven=proven) == (ExhaustedError, "FLOW_UPLOADS_FULL")
    crowd.take("other", flow="b", proven=proven)
    crowd.now.now += GRACE_SECONDS
    if proven:
        assert refused(crowd.take, "late", proven=proven) == (ExhaustedError, "FLOW_UPLOADS_FULL")
    else:
        crowd.take("late")
        assert len(crowd.aborted) == 1
        assert crowd.aborted != ["other"]


def test_unproven_senders_have_half_of_the_bytes():
    crowd = Crowd(most=100, most_bytes=1000 * KIB)
    for number in range(3):
        crowd.take(f"declared {number}", size=125 * KIB)
    unknown = [crowd.take("unknown 0"), crowd.take("unknown 1")]
    crowd.places.received(unknown[0], 100 * KIB)
    crowd.places.received(unknown[1], 25 * KIB)
    assert refused(crowd.take, "late", size=1) == (UnavailableError, "UPLOADS_FULL")
    assert refused(crowd.places.received, unknown[1], 1) == (UnavailableError, "UPLOADS_FULL")
    crowd.take("proven", size=900 * KIB, proven=True)
    crowd.now.now += GRACE_SECONDS
    crowd.take("late", size=1)
    assert len(crowd.aborted) == 1
    assert crowd.aborted[0].startswith("declared")


def test_an_address_has_a_quarter_of_the_bytes_whether_it_only_declares_them_or_sends_them():
    crowd = Crowd(most=100, most_bytes=1000 * KIB)
    for number in range(5):
        crowd.places.received(crowd.take(f"honest {number}", size=40 * KIB), 30 * KIB)
    crowd.now.now += GRACE_SECONDS
    assert refused(crowd.take, "greedy", size=125 * KIB + 1) == (ExhaustedError, "SENDER_UPLOADS_FULL")
    crowd.take("greedy", size=125 * KIB)
    assert refused(crowd.take, "greedy", size=1) == (ExhaustedError, "SENDER_UPLOADS_FULL")
    growing = crowd.take("growing")
    crowd.places.received(growing, 125 * KIB)
    assert refused(crowd.places.received, growing, 1) == (ExhaustedError, "SENDER_UPLOADS_FULL")
    for number in range(3):
        crowd.take(f"from behind a proxy {number}", sender="", size=10 * KIB)
    assert crowd.aborted == []


def test_nobody_gives_way_for_one_that_gets_no_place_even_so():
    crowd = Crowd(most=100, most_bytes=1000 * KIB)
    for number in range(5):
        crowd.places.received(crowd.take(f"old {number}", size=20 * KIB), 10 * KIB)
    crowd.now.now += GRACE_SECONDS
    for number in range(3):
        crowd.take(f"new {number}", size=125 * KIB)
    assert refused(crowd.take, "late", size=125 * KIB + 1, sender="") == (UnavailableError, "UPLOADS_FULL")
    assert crowd.aborted == []
    crowd.take("late", size=85 * KIB)
    assert len(crowd.aborted) == 3


def test_nobody_gives_way_for_one_whose_flow_has_a_place_but_the_router_none():
    crowd = Crowd(most=limits.MAX_FLOW_UPLOADS + 4, most_bytes=1000 * KIB)
    for number in range(limits.MAX_FLOW_UPLOADS):
        crowd.take(f"{number}", size=1)
    crowd.now.now += GRACE_SECONDS
    for number in range(4):
        crowd.take(f"new {number}", flow="b", size=124 * KIB)
    assert refused(crowd.take, "late", size=5 * KIB, sender="") == (UnavailableError, "UPLOADS_FULL")
    assert crowd.aborted == []
    crowd.take("late", size=1)
    assert len(crowd.aborted) == 1
