"""A short chaos campaign; `make chaos SECONDS=1800` is a long one."""

import random

import pytest

from chaos.campaign import run_campaign

SECONDS = 20


@pytest.mark.e2e
@pytest.mark.timeout(600)
async def test_nothing_that_was_acknowledged_is_lost_or_done_twice_whatever_breaks(tmp_path):
    seed, lines = random.randrange(2**32), []
    verdict = await run_campaign(tmp_path, seconds=SECONDS, rate=20, seed=seed, report=lines.append)
    assert verdict.problems == [], (seed, verdict.as_dict(), lines)
    assert verdict.counts["acknowledged"] > 0
    assert verdict.counts["faults"] > 0
