import asyncio

import pytest

from flowhook.errors import ExhaustedError, UnavailableError
from flowhook.sharing import FairQueue, Limit, Principal
from tests.support.patience import until

A, B, C = (Principal("token", name) for name in "abc")
RUNNER = Principal("token", "runner", essential=True)


def queue_of(total, waiting, **options):
    names = {"counts": "reads", "per": "tokens", "reason": "TOO_MANY_READS", "full": "READS_FULL"}
    return FairQueue(Limit(**names, total=total, waiting=waiting, **options))


class Holders:
    """Tasks that hold a seat of a queue until they are told to leave, in the order in which they got it."""

    def __init__(self, queue):
        self._queue = queue
        self._leave = {}
        self.seated = []
        self.tasks = {}

    async def add(self, principal, name):
        self._leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(principal, name))
        await asyncio.sleep(0)  # it has begun to wait

    async def _hold(self, principal, name):
        async with self._queue.seat(principal):
            self.seated.append(name)
            await self._leave[name].wait()

    def tell(self, name):
        self._leave[name].set()

    async def leave(self, name):
        self.tell(name)
        await self.tasks[name]
        await asyncio.sleep(0)

    async def leave_all(self):
        for event in self._leave.values():
            event.set()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        assert self._queue.seats.used == self._queue.waiting.used == 0


async def holders_of(queue, *holders):
    made = Holders(queue)
    for principal, name in holders:
        await made.add(principal, name)
    return made


async def test_principals_take_turns_whoever_came_first():
    made = await holders_of(queue_of(1, 100), (A, "a1"), (A, "a2"), (A, "a3"), (B, "b1"), (B, "b2"), (C, "c1"))
    for name in ("a1", "a2", "b1", "c1", "a3"):
        await made.leave(name)
    assert made.seated == ["a1", "a2", "b1", "c1", "a3", "b2"]
    await made.leave_all()


async def test_a_principal_waits_for_its_share_while_another_does_not_wait():
    made = await holders_of(queue_of(4, 100), (A, "a1"), (A, "a2"), (B, "b1"))
    assert made.seated == ["a1", "b1"]
    await made.leave("a1")
    assert made.seated == ["a1", "b1", "a2"]
    await made.leave_all()


async def test_a_reserved_seat_is_not_waited_for_by_what_is_essential():
    made = await holders_of(queue_of(2, 100, reserved=1), (A, "a1"), (B, "b1"), (RUNNER, "r1"))
    assert made.seated == ["a1", "r1"]
    await made.leave_all()


async def test_a_queue_has_room_for_a_part_of_each_principal():
    queue = queue_of(1, 39)
    made = await holders_of(queue, *((A, f"a{each}") for each in range(10)))
    with pytest.raises(ExhaustedError, match="too many reads of one token"):
        async with queue.seat(A):
            pass
    await made.add(B, "b1")
    await made.leave("a0")
    await made.leave("a1")
    assert made.seated == ["a0", "a1", "b1"]
    await made.leave_all()


async def test_a_queue_without_any_room_says_so():
    queue = queue_of(1, 1)
    made = await holders_of(queue, (A, "a1"), (B, "b1"))
    with pytest.raises(UnavailableError) as refused:
        async with queue.seat(C):
            pass
    assert refused.value.reason == "READS_FULL"
    await made.leave_all()


async def test_who_is_cancelled_while_it_waits_is_passed_over():
    made = await holders_of(queue_of(1, 100), (A, "a1"), (B, "b1"), (B, "b2"), (C, "c1"))
    made.tasks["b1"].cancel()
    await made.leave("a1")
    assert made.seated == ["a1", "b2"]
    made.tasks["c1"].cancel()
    await made.leave_all()


async def test_who_is_cancelled_when_it_gets_a_seat_hands_it_on():
    made = await holders_of(queue_of(1, 100), (A, "a1"), (B, "b1"), (C, "c1"))
    made.tell("a1")  # it leaves in the next turn of the loop, and then b1 is cancelled in the same turn
    asyncio.get_running_loop().call_soon(made.tasks["b1"].cancel)
    await until(lambda: "c1" in made.seated)
    assert made.seated == ["a1", "c1"]
    await made.leave_all()


async def test_a_failure_in_the_block_gives_the_seat_back():
    queue = queue_of(1, 100)
    with pytest.raises(ZeroDivisionError):
        async with queue.seat(A):
            raise ZeroDivisionError
    async with queue.seat(B):
        pass
