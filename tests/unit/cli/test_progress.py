"""What is said while something is waited for."""

from __future__ import annotations

import asyncio

import pytest

from cli.supervisor.progress import report_waiting


@pytest.fixture
def clock():
    """Time that passes at once; it ends after 300 s."""

    class Clock:
        now = 0.0

        async def sleep(self, seconds):
            self.now += seconds
            if self.now > 300:
                raise asyncio.CancelledError

    return Clock()


async def test_it_is_said_after_10_s_and_ever_less_often_but_never_less_than_once_a_minute(clock):
    message = []
    with pytest.raises(asyncio.CancelledError):
        await report_waiting(lambda: "edge-1", lambda line: message.append((clock.now, line)), sleep=clock.sleep)
    assert [when for when, _ in message] == [10, 30, 70, 130, 190, 250]
    assert {line for _, line in message} == {"waiting for edge-1"}


async def test_nothing_is_said_while_nothing_is_missing(clock):
    message = []
    with pytest.raises(asyncio.CancelledError):
        await report_waiting(
            lambda: "edge-1" if clock.now == 70 else "", lambda _: message.append(clock.now), sleep=clock.sleep
        )
    assert message == [70]
