"""Heartbeats that count: of a router of this log, sent now, and once."""

from itertools import pairwise

import pytest
from support.cluster_keys import KEY

from router.storage.commit_log.heartbeat_seals import MOST_ROUTERS, REPEATED, HeartbeatRefusedError, HeartbeatSeals
from router.storage.commit_log.seals import ClusterKeys


def seals(router, *keys, log="log-1"):
    return HeartbeatSeals(ClusterKeys(*keys or (KEY,)).derive("heartbeats", log), router)


@pytest.fixture
def a():
    return seals("a")


@pytest.fixture
def b():
    return seals("b")


def refusal(receiver, router, message):
    with pytest.raises(HeartbeatRefusedError) as refused:
        receiver.open(router, message)
    return refused.value


def introduce(a, b):
    """Exchange the heartbeats after which each believes the other."""
    b.open("a", a.seal(b""))
    assert a.open("b", b.seal(b"")).live
    assert b.open("a", a.seal(b"")).live


def test_a_router_is_believed_once_it_has_named_the_process_that_hears_it(a, b):
    first = b.open("a", a.seal(b"first"))
    assert (first.content, first.live, first.greeting) == (b"first", False, True)
    assert a.open("b", b.seal(b"hello")).live
    second = b.open("a", a.seal(b"second"))
    assert (second.content, second.live, second.greeting) == (b"second", True, False)
    assert b.open("a", a.seal(b"third")).live


def test_a_heartbeat_counts_once(a, b):
    introduce(a, b)
    sent = [a.seal(b"") for _ in range(REPEATED + 1)]
    for message in sent:
        assert b.open("a", message).live
    assert not refusal(b, "a", sent[-1]).suspicious  # as after a broken connection
    assert refusal(b, "a", sent[0]).suspicious
    assert b.open("a", a.seal(b"")).live


def test_what_was_recorded_before_a_router_started_is_silence(a, b):
    introduce(a, b)
    recorded = [a.seal(b"alive") for _ in range(20)]
    started_again = seals("b")
    assert not any(started_again.open("a", message).live for message in recorded)


def test_a_former_process_of_a_router_is_silence(a, b):
    introduce(a, b)
    withheld = a.seal(b"the former owner")
    again = seals("a")
    introduce(again, b)
    assert refusal(b, "a", withheld).suspicious
    assert b.open("a", again.seal(b"")).live


def test_recorded_heartbeats_do_not_keep_a_new_process_from_being_believed(a, b):
    recorded = a.seal(b"")
    again = seals("a")
    for _ in range(3):
        b.open("a", again.seal(b""))
        again.open("b", b.seal(b""))
        assert b.open("a", again.seal(b"")).live
        assert not b.open("a", recorded).live


def test_the_own_heartbeats_are_nobodys(a):
    assert a.open("a", a.seal(b"")) is None


def test_another_router_of_the_same_name_is_live_once_it_has_heard_this_one(a):
    namesake = seals("a")
    assert not a.open("a", namesake.seal(b"")).live
    namesake.open("a", a.seal(b""))
    assert a.open("a", namesake.seal(b"")).live


@pytest.mark.parametrize("message", [b"", b"x" * 200])
def test_what_is_no_heartbeat_is_refused(b, message):
    assert refusal(b, "a", message).suspicious


def test_what_was_changed_is_refused(a, b):
    message = a.seal(b"content")
    for place in range(len(message)):
        changed = bytearray(message)
        changed[place] ^= 1
        refusal(b, "a", bytes(changed))


def test_another_key_another_log_and_another_name_are_refused(a, b):
    refusal(b, "a", seals("a", b"o" * 32).seal(b""))
    refusal(b, "a", seals("a", log="log-2").seal(b""))
    refusal(b, "c", a.seal(b""))


def test_a_key_is_replaced_while_routers_run():
    old, new = b"o" * 32, b"n" * 32
    stages = [(old,), (old, new), (new, old), (new,)]
    for earlier, later in pairwise(stages):
        introduce(seals("a", *earlier), seals("b", *later))


def test_heartbeats_of_most_routers_fit_a_message(b):
    for number in range(2 * MOST_ROUTERS):
        b.open(f"r{number}", seals(f"r{number}").seal(b""))
    assert len(b.seal(b"")) < 1024
