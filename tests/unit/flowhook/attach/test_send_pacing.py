"""Few, large messages while much is under way; at once what concerns a flow with little."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import PATIENCE

from flowhook.attach.send_pacing import MAX_SECONDS, SECONDS_EACH, SendPacer


@pytest.mark.parametrize(
    ("under_way", "seconds"), [(0, 0.0), (1, SECONDS_EACH), (10, 10 * SECONDS_EACH), (1000, MAX_SECONDS)]
)
def test_messages_gather_the_longer_the_more_is_under_way(under_way, seconds):
    pace = SendPacer(lambda: under_way)
    assert pace.wait(100.0) == 0.0
    pace.sent(100.0)
    assert pace.wait(100.0) == pytest.approx(seconds)
    assert pace.wait(100.0 + MAX_SECONDS) == 0.0


def test_what_is_urgent_goes_at_once_and_the_next_message_waits_again():
    pace = SendPacer(lambda: 1000)
    pace.sent(100.0)
    pace.expedite()
    assert pace.wait(100.0) == 0.0
    pace.sent(100.0)
    assert pace.wait(100.0) == pytest.approx(MAX_SECONDS)


async def test_a_message_that_waits_for_its_turn_is_sent_when_something_urgent_comes(monkeypatch):
    monkeypatch.setattr("flowhook.attach.send_pacing.MAX_SECONDS", 3600.0)
    monkeypatch.setattr("flowhook.attach.send_pacing.SECONDS_EACH", 3600.0)
    pace = SendPacer(lambda: 1)
    await pace.turn()
    turn = asyncio.create_task(pace.turn())
    await asyncio.sleep(0)
    assert not turn.done()
    pace.expedite()
    async with asyncio.timeout(PATIENCE):
        await turn
