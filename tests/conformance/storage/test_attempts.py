"""Attempts: the newest interrupted ones of each execution and the one that ended it are stored until it is removed."""

from flowhook.model import Status
from flowhook.model.executions import Attempt, AttemptEnd, AttemptHistory
from router.storage.model import MAX_ATTEMPTS, AttemptInterrupted, AttemptRefunded, Ended, Replied, Requeued


def attempt(number, runner="r1", end=AttemptEnd.RUNNER_LOST, *, charged=True):
    return Attempt(number, runner, number * 10, number * 10 + 5, end, "", charged)


async def stored(cluster, seq):
    return await cluster.state.attempts(seq)


async def test_attempts_are_stored_in_the_order_of_their_ends_also_after_a_restart(cluster, new_event):
    seq, other = await cluster.append(new_event(), new_event())
    assert await stored(cluster, seq) == AttemptHistory()
    unknown = Attempt(2, "", None, 40, AttemptEnd.ROUTER_RESTARTED, "", charged=True)
    released = Attempt(3, "r2", 50, 55, AttemptEnd.RELEASED, "DRAINING", charged=False)
    await cluster.state.write(
        [AttemptInterrupted(seq, attempt(1)), Requeued(seq, 1), AttemptInterrupted(other, attempt(1, "r9"))]
    )
    await cluster.state.write([AttemptInterrupted(seq, unknown), AttemptInterrupted(seq, released)])
    await cluster.restart()
    assert await stored(cluster, seq) == AttemptHistory((attempt(1), unknown, released), 0)
    assert await stored(cluster, other) == AttemptHistory((attempt(1, "r9"),), 0)


async def test_of_many_attempts_the_newest_are_stored_and_the_others_counted(cluster, new_event):
    (seq,) = await cluster.append(new_event())
    first = [attempt(number) for number in range(1, MAX_ATTEMPTS + 3)]
    await cluster.state.write([AttemptInterrupted(seq, each) for each in first])
    assert await stored(cluster, seq) == AttemptHistory(tuple(first[2:]), 2)
    await cluster.state.write([AttemptInterrupted(seq, attempt(99))])
    assert await stored(cluster, seq) == AttemptHistory((*first[3:], attempt(99)), 3)


async def test_a_refund_concerns_the_last_charged_attempt_of_the_runner(cluster, new_event):
    (seq,) = await cluster.append(new_event())
    ended = [attempt(1), attempt(2), attempt(3, charged=False), attempt(3, "r2")]
    await cluster.state.write([AttemptInterrupted(seq, each) for each in ended])
    await cluster.state.write([AttemptRefunded(seq, "r1"), AttemptRefunded(seq, "r3")])
    assert [each.charged for each in (await stored(cluster, seq)).attempts] == [True, False, False, True]


async def test_an_attempt_may_be_stored_with_the_end_of_its_execution_and_not_after_it(cluster, new_event):
    (seq,) = await cluster.append(new_event())
    await cluster.state.write([AttemptInterrupted(seq, attempt(1)), Ended(seq, Status.FAULTED, 20, 1)])
    await cluster.state.write([AttemptInterrupted(seq, attempt(2))])
    assert await stored(cluster, seq) == AttemptHistory((attempt(1),), 0)


async def test_the_attempt_that_ended_an_execution_is_the_last_one_also_after_a_restart(cluster, new_event):
    completed, faulted, replied, adopted = await cluster.append(*(new_event() for _ in range(4)))
    await cluster.state.write([AttemptInterrupted(completed, attempt(1)), Requeued(completed, 1)])
    await cluster.state.write([Replied(replied, b"early")])
    await cluster.state.write(
        [
            Ended(completed, Status.COMPLETED, 90, 2, b"{}", runner="r 2", assign_time_ms=80),
            Ended(faulted, Status.FAULTED, 90, 1, runner="r2", assign_time_ms=81),
            Ended(replied, Status.COMPLETED, 90, 1, b"{}", reply=b"late", runner="r2", assign_time_ms=82),
            Ended(adopted, Status.COMPLETED, 90, 3, b"{}", runner="r2"),
        ]
    )
    await cluster.state.write([Ended(completed, Status.CANCELLED, 99, 9, runner="r9", assign_time_ms=98)])
    await cluster.restart()
    end = AttemptEnd.EXECUTION_ENDED
    last = Attempt(2, "r 2", 80, 90, end, charged=True)
    assert await stored(cluster, completed) == AttemptHistory((attempt(1), last), 0)
    assert [(await stored(cluster, seq)).attempts for seq in (faulted, replied, adopted)] == [
        (Attempt(1, "r2", 81, 90, end, charged=True),),
        (Attempt(1, "r2", 82, 90, end, charged=True),),
        (Attempt(3, "r2", None, 90, end, charged=True),),
    ]
    assert (await cluster.state.answer(replied)).reply == b"early"


async def test_attempts_are_removed_with_their_execution(cluster, new_event):
    (expired,) = await cluster.append(new_event())
    (deleted,) = await cluster.append(new_event())
    for seq in (expired, deleted):
        await cluster.state.write([AttemptInterrupted(seq, attempt(1))])
    for seq, end_time_ms in ((expired, 2_000), (deleted, 3_000)):
        await cluster.state.write([Ended(seq, Status.COMPLETED, end_time_ms, 2, runner="r2", assign_time_ms=1)])
    assert await cluster.state.expire(ended_before_ms=2_001) == 1
    assert await cluster.state.delete([deleted]) == 1
    assert [await stored(cluster, seq) for seq in (expired, deleted)] == [AttemptHistory()] * 2
