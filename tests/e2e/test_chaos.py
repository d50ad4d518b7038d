"""Short chaos campaigns; `make chaos SECONDS=1800` is a long one."""

import random

import pytest

from chaos.campaign import NATS, SQLITE, run_campaign

SECONDS = 20


@pytest.mark.e2e
@pytest.mark.parametrize("storage", [SQLITE, NATS])
async def test_nothing_that_was_acknowledged_is_lost_or_done_twice_whatever_breaks(tmp_path, storage):
    seed, lines = random.randrange(2**32), []
    verdict = await run_campaign(tmp_path, seconds=SECONDS, rate=20, seed=seed, report=lines.append, storage=storage)
    assert verdict.problems == [], (seed, verdict.as_dict(), lines)
    assert verdict.counts["acknowledged"] > 0
    assert verdict.counts["faults"] > 0
    assert storage == SQLITE or verdict.counts["views_compared"] > 0
