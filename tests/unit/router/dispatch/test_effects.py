"""Effects: performed in order, each once, on a later turn of the event loop."""

from __future__ import annotations

import asyncio

from router.dispatch.effects import ASSIGN_READY, SEND_WANTED_TYPES, EffectQueue, ListenAgain, Redeliver
from router.scheduling.matching import InboundEvent

OFFERED = InboundEvent("a", True, "approval", number=7, expire_at_ms=1000)


async def test_effects_are_performed_in_order_each_once():
    effects = EffectQueue()
    for effect in (ListenAgain(1, 7), ASSIGN_READY, Redeliver(OFFERED), ASSIGN_READY, SEND_WANTED_TYPES):
        effects.add(effect)
    assert await effects.next() == [ListenAgain(1, 7), ASSIGN_READY, Redeliver(OFFERED), SEND_WANTED_TYPES]


async def test_an_effect_added_while_it_is_performed_is_performed_again_after_others_had_their_turn():
    effects = EffectQueue()
    turns = []
    effects.add(ASSIGN_READY)
    assert await effects.next() == [ASSIGN_READY]
    effects.add(ASSIGN_READY)
    asyncio.get_running_loop().call_soon(turns.append, "another")
    assert await effects.next() == [ASSIGN_READY]
    assert turns == ["another"]


async def test_whoever_performs_waits_until_there_is_an_effect():
    effects = EffectQueue()
    performing = asyncio.create_task(effects.next())
    await asyncio.sleep(0)
    assert not performing.done()
    effects.add(SEND_WANTED_TYPES)
    assert await performing == [SEND_WANTED_TYPES]
