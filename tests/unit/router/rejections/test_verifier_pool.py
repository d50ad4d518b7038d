"""Verifications are asked of edges in turn, and of another one if the first is lost."""

from __future__ import annotations

import asyncio

import pytest

from flowhook.errors import ExhaustedError, UnavailableError
from flowhook.sharing import Principal, current_principal
from flowhook.sharing.table import RouterLimits
from flowhook.v1 import rejection_service_pb2 as pb
from router.rejections import rejection_acceptance
from router.rejections.rejection_acceptance import VerifierPool

REQUEST = pb.AttachVerifierResponse(flow_id="f")
EVER = 3600.0


class Edge:
    """The stream of an edge, as the router sees it."""

    def __init__(self, pool):
        self.asked = asyncio.Queue()
        self._answers = asyncio.Queue()
        self.stream = asyncio.create_task(pool.serve(self, self.asked.put))

    def __aiter__(self):
        return self

    async def __anext__(self):
        answer = await self._answers.get()
        if answer is None:
            raise StopAsyncIteration
        return answer

    def answer(self, asked, flow_id="f"):
        self._answers.put_nowait(
            pb.AttachVerifierRequest(verification_id=asked.verification_id, event={"flow_id": flow_id})
        )

    async def end(self):
        self._answers.put_nowait(None)
        await self.stream


@pytest.fixture
async def pool():
    return VerifierPool(seconds=EVER, attach_seconds=EVER)


@pytest.fixture
async def attach(pool):
    """Attach an edge, or several."""
    edges = []

    async def attach():
        edges.append(Edge(pool))
        await asyncio.sleep(0)
        return edges[-1]

    yield attach
    for edge in edges:
        edge.stream.cancel()
    await asyncio.gather(*(edge.stream for edge in edges), return_exceptions=True)


async def test_each_answer_is_that_of_its_request(pool, attach):
    edge = await attach()
    first, second = (asyncio.create_task(pool.verify(REQUEST)) for _ in range(2))
    asked = [await edge.asked.get() for _ in range(2)]
    for each, name in zip(reversed(asked), ("second", "first"), strict=True):
        edge.answer(each, name)
    assert [(await task).event.flow_id for task in (first, second)] == ["first", "second"]


async def test_edges_are_asked_in_turn(pool, attach):
    edges = [await attach(), await attach()]
    for _ in range(2):
        tasks = [asyncio.create_task(pool.verify(REQUEST)) for _ in edges]
        for edge in edges:
            edge.answer(await edge.asked.get())
        await asyncio.gather(*tasks)


async def test_another_edge_is_asked_if_the_first_is_lost_in_the_middle(pool, attach):
    first, second = await attach(), await attach()
    verification = asyncio.create_task(pool.verify(REQUEST))
    await asyncio.sleep(0)
    lost, other = (first, second) if await _is_asked(first) else (second, first)
    await lost.end()
    other.answer(await other.asked.get())
    assert (await verification).event.flow_id == "f"


async def _is_asked(edge):
    for _ in range(5):
        await asyncio.sleep(0)
    return not edge.asked.empty()


async def test_one_that_attaches_late_is_asked(pool, attach):
    verification = asyncio.create_task(pool.verify(REQUEST))
    await asyncio.sleep(0)
    edge = await attach()
    edge.answer(await edge.asked.get())
    assert (await verification).event.flow_id == "f"


async def test_without_an_edge_the_error_says_so():
    with pytest.raises(UnavailableError) as raised:
        await VerifierPool(attach_seconds=0).verify(REQUEST)
    assert raised.value.reason == "NO_VERIFIER"


async def test_an_edge_that_does_not_answer_is_not_waited_for_forever():
    pool = VerifierPool(seconds=0.01)
    edge = Edge(pool)
    with pytest.raises(UnavailableError) as raised:
        await pool.verify(REQUEST)
    assert raised.value.reason == "VERIFICATION_TIMEOUT"
    edge.answer(await edge.asked.get())  # too late, and without effect
    await edge.end()


async def test_few_are_verified_at_a_time_for_one_operator_and_others_do_not_wait(pool, attach):
    edge, limit = await attach(), RouterLimits().verifications
    share = limit.total // limit.parts
    current_principal.set(Principal("token", "a"))
    tasks = [asyncio.create_task(pool.verify(REQUEST)) for _ in range(share + 1)]
    asked = [await edge.asked.get() for _ in range(share)]
    assert not await _is_asked(edge)
    current_principal.set(Principal("token", "b"))
    tasks.append(asyncio.create_task(pool.verify(REQUEST)))
    asked.append(await edge.asked.get())
    for each in asked:
        edge.answer(each)
    edge.answer(await edge.asked.get())
    await asyncio.gather(*tasks)


async def test_the_number_of_edges_is_bounded(pool, attach, monkeypatch):
    monkeypatch.setattr(rejection_acceptance, "MAX_VERIFIERS", 1)
    await attach()
    with pytest.raises(ExhaustedError):
        await Edge(pool).stream
