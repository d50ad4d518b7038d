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


async def test_it_is_said_after_10_s_and_ever_less_often_but_never_less_than_once_a_minute(clock, capsys):
    said = []

    def lack():
        said.append(clock.now)
        return "edge-1"

    with pytest.raises(asyncio.CancelledError):
        await report_waiting(lack, sleep=clock.sleep)
    assert said == [10, 30, 70, 130, 190, 250]
    assert capsys.readouterr().out.splitlines() == ["waiting for edge-1"] * len(said)


async def test_nothing_is_said_while_nothing_is_missing(clock, capsys):
    with pytest.raises(asyncio.CancelledError):
        await report_waiting(lambda: "edge-1" if clock.now == 70 else "", sleep=clock.sleep)
    assert capsys.readouterr().out.splitlines() == ["waiting for edge-1"]
