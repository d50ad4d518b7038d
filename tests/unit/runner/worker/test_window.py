"""How many executions a runner takes at a time."""

from __future__ import annotations

from runner.worker.window import FIRST, GOOD_SECONDS, LEAST, SLOWER, Window

QUICK, SLOW = GOOD_SECONDS / 2, GOOD_SECONDS * 2


def observed(window, *seconds, used=True):
    for each in seconds:
        window.observe(each, used=used)
    return window.size


def test_it_begins_small_and_never_exceeds_what_the_operator_allows():
    assert Window(256).size == FIRST
    assert Window(3).size == 3
    assert observed(Window(3), *[QUICK] * 10, *[SLOW] * 100) == 3


def test_it_grows_to_all_there_may_be_while_the_router_is_quick():
    assert observed(Window(256), *[QUICK] * 60) == 256


def test_it_does_not_grow_while_little_of_it_is_used():
    assert observed(Window(256), *[QUICK] * 60, used=False) == FIRST


def test_it_shrinks_to_the_least_while_the_router_is_slow_and_grows_again_after():
    window = Window(256)
    observed(window, *[QUICK] * 60)
    assert observed(window, SLOW) < 256
    assert observed(window, *[SLOW] * 60) == LEAST
    assert observed(window, *[QUICK] * 60) == 256


def test_a_router_that_is_never_quick_is_not_blamed_for_its_disk():
    window = Window(256)
    disk = 5 * GOOD_SECONDS
    observed(window, *[disk] * 60)
    assert window.size == 256
    assert observed(window, SLOWER * disk * 1.2) < 256


def test_a_disk_that_became_slow_is_learned_of():
    window = Window(256)
    observed(window, QUICK, *[GOOD_SECONDS * 5] * 60)
    assert window.size == LEAST
    assert observed(window, *[GOOD_SECONDS * 5] * 2000) == 256


def test_it_grows_while_nothing_is_waited_for_but_work():
    window = Window(256)
    for _ in range(60):
        window.tick(used=True)
    assert window.size == 256


def test_idleness_is_no_reason_to_grow():
    window = Window(256)
    for _ in range(60):
        window.tick(used=False)
    assert window.size == FIRST
