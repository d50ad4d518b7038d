"""Callers that wait for executions: each learns of its own, and they are bounded."""

from __future__ import annotations

import pytest

from flowhook.errors import ExhaustedError
from flowhook.model import Status
from router.dispatch.observers.reply_waiters import ReplyWaiters
from router.storage.model import Ended


def end(seq):
    return Ended(seq, Status.COMPLETED, 1, 1)


async def test_all_who_wait_for_an_execution_learn_of_its_end_and_nobody_else():
    waiters = ReplyWaiters()
    with waiters.place() as first, waiters.place() as second, waiters.place() as other:
        futures = [first.wait_for(1), second.wait_for(1), other.wait_for(2)]
        waiters.ended(end(1))
        assert [future.done() for future in futures] == [True, True, False]
        assert futures[0].result() == end(1)


async def test_a_place_is_free_again_and_nothing_is_retained_when_a_caller_left():
    waiters = ReplyWaiters(limit=1)
    for _ in range(3):
        with waiters.place() as place:
            place.wait_for(1)
            with pytest.raises(ExhaustedError) as caught, waiters.place():
                pass
            assert caught.value.reason == "TOO_MANY_WAITERS"
    assert waiters._waiters == {}


async def test_callers_wait_with_as_many_bytes_as_there_may_be():
    waiters = ReplyWaiters(max_bytes=10)
    with waiters.place(6):
        with pytest.raises(ExhaustedError) as caught, waiters.place(5):
            pass
        assert caught.value.reason == "TOO_MANY_WAITERS"
        with waiters.place(4):
            pass
    with waiters.place(10):
        pass


async def test_one_who_left_does_not_keep_others_from_learning():
    waiters = ReplyWaiters()
    with waiters.place() as stays:
        future = stays.wait_for(1)
        with waiters.place() as leaves:
            leaves.wait_for(1)
        waiters.ended(end(1))
        assert future.done()
