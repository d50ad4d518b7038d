"""Callers that wait for executions: each learns of its own, and they are bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowhook.errors import ExhaustedError
from flowhook.model import Status
from flowhook.sharing import Principal, current_principal
from flowhook.sharing.table import RouterLimits
from router.dispatch.observers import CALL_BYTES, ReplyWaiters
from router.storage.model import Ended


def limits_of(size):
    """Limits of which flows share `size` bytes."""
    limits = RouterLimits()
    return replace(limits, replies_of_flow=replace(limits.replies_of_flow, total=size))


def end(seq):
    return Ended(seq, Status.COMPLETED, 1, 1)


async def test_all_who_wait_for_an_execution_learn_of_its_end_and_nobody_else():
    waiters = ReplyWaiters(RouterLimits())
    with waiters.place("a") as first, waiters.place("a") as second, waiters.place("a") as other:
        futures = [first(1), second(1), other(2)]
        waiters.answer([end(1)])
        assert [future.done() for future in futures] == [True, True, False]
        assert futures[0].result() == end(1)


async def test_a_flow_has_a_share_whoever_calls_and_nothing_is_retained_when_a_caller_left():
    waiters = ReplyWaiters(limits_of(4 * CALL_BYTES))
    for _ in range(3):
        with waiters.place("a") as wait_for:
            wait_for(1)
            with pytest.raises(ExhaustedError) as caught, waiters.place("a"):
                pass
            assert caught.value.reason == "TOO_MANY_WAITERS"
            with waiters.place("b"):
                pass
    assert waiters._waiters == {}


async def test_a_large_request_counts_with_its_size():
    waiters = ReplyWaiters(limits_of(8 * CALL_BYTES))
    with waiters.place("a", CALL_BYTES), pytest.raises(ExhaustedError), waiters.place("a"):
        pass
    with waiters.place("a"), waiters.place("a"):
        pass


async def test_a_token_has_a_share_and_edges_have_theirs():
    limits = RouterLimits()
    waiters = ReplyWaiters(
        replace(
            limits, replies_of_token=replace(limits.replies_of_token, total=8 * CALL_BYTES, reserved=4 * CALL_BYTES)
        )
    )
    current_principal.set(Principal("token", "a"))
    with waiters.place("1"):
        with pytest.raises(ExhaustedError), waiters.place("2"):
            pass
        current_principal.set(Principal("token", "edge", essential=True))
        with waiters.place("2"), waiters.place("3"), waiters.place("4"), waiters.place("5"):
            pass


async def test_one_who_left_does_not_keep_others_from_learning():
    waiters = ReplyWaiters(RouterLimits())
    with waiters.place("a") as stays:
        future = stays(1)
        with waiters.place("a") as leaves:
            leaves(1)
        waiters.answer([end(1)])
        assert future.done()
