"""Offers to running executions: one at a time, consumed by a checkpoint or delivered again."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from support.cores import accept, attach, make_shard
from support.shards import Link

from flowhook.attach.messages import Checkpoint, SubscriptionUpdate
from flowhook.model import JournalEntry, Subscription
from flowhook.sharing.table import RouterLimits
from router.dispatch.effects import Redeliver
from router.dispatch.parts import ShardParts
from router.dispatch.receivers import LiveDelivery
from router.scheduling.matching import EventContent, InboundEvent
from router.scheduling.subscriptions import EventReceiver

KEY = "/do/0/listen#0"
EVENT = InboundEvent("a", True, "approval", EventContent(b"{}"), number=7, expire_at_ms=1000)
STORED = EVENT._replace(content=None)
RECEIVER = EventReceiver(1, KEY)


class Offers:
    """Live delivery to execution 1, which "r1" is running."""

    def __init__(self):
        self.core = make_shard()
        attach(self.core)
        accept(self.core, "a", 1)
        (granted,) = self.core.assign()
        self.token = granted.token
        self.runner = Link("r1")
        parts = ShardParts(
            shard=self.core,
            state=None,
            log=None,
            registry=CollectorRegistry(),
            clock=lambda: 0.0,
            now_ms=lambda: 0,
            limits=RouterLimits(),
        )
        parts.runners.add(self.runner)
        self.effects = parts.effects
        self.live = LiveDelivery(parts)

    def listen(self, generation=1):
        return self.live.listen(SubscriptionUpdate(self.token, generation, (Subscription(KEY, ()),)))

    def checkpoint(self, consumed=7, position=0):
        return Checkpoint(self.token, position, JournalEntry(KEY, b"{}"), consumed=consumed)


@pytest.fixture
async def offers():
    return Offers()


async def test_an_execution_gets_one_offer_at_a_time(offers):
    assert offers.live.offer(RECEIVER, EVENT) is None
    offers.listen()
    offer = offers.live.offer(RECEIVER, EVENT)
    assert offers.live.offer(RECEIVER, EVENT) is None
    offers.live.hand_over(offer, b"{}")
    assert [(each.lease, each.generation, each.number, each.entry.key) for each in offers.runner.arrivals] == [
        (offers.token, 1, 7, KEY)
    ]


async def test_a_checkpoint_consumes_what_was_offered_and_nothing_else(offers):
    offers.listen()
    offer = offers.live.offer(RECEIVER, EVENT)
    assert offers.live.accept([offers.checkpoint(consumed=8)]) == ([], {offers.token})
    assert offers.live.accept([offers.checkpoint()]) == ([offer], set())
    assert offers.live.accept([offers.checkpoint()]) == ([], set())  # a repetition


@pytest.mark.parametrize("decline", [lambda offers: offers.listen(2), lambda offers: offers.live.leave(1)])
async def test_an_event_that_is_declined_is_delivered_again_without_its_content(offers, decline):
    offers.listen()
    offers.live.offer(RECEIVER, EVENT)
    decline(offers)
    assert await offers.effects.next() == [Redeliver(STORED)]


async def test_an_event_whose_checkpoint_was_not_stored_is_offered_again_or_delivered_again(offers):
    offers.listen()
    offer = offers.live.offer(RECEIVER, EVENT)
    accepted, _ = offers.live.accept([offers.checkpoint()])
    offers.live.restore(accepted)
    assert offers.live.accept([offers.checkpoint()]) == ([offer], set())
    offers.live.leave(1)
    offers.live.restore(accepted)
    assert await offers.effects.next() == [Redeliver(STORED)]


async def test_an_execution_listens_again_when_the_event_it_was_offered_is_gone(offers):
    offers.listen()
    offers.live.offer(RECEIVER, EVENT)
    assert offers.live.withdraw(1, 8) is None
    assert offers.live.withdraw(1, 7) == ("a", (Subscription(KEY, ()),))
    assert offers.live.withdraw(1, 7) is None
    assert offers.live.offer(RECEIVER, EVENT) is not None


async def test_nobody_listens_under_a_stale_lease(offers):
    offers.core.end(offers.token)
    assert offers.listen() is None
    assert not offers.live
