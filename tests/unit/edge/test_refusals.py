from __future__ import annotations

import structlog

from edge.refusals import BURST, LimitedLog


def test_a_flood_is_cut_and_counted():
    now = 0.0
    with structlog.testing.capture_logs() as lines:
        log = LimitedLog(structlog.get_logger(), lambda: now)
        for number in range(200):
            log.warning("refused", number=number)
        assert len(lines) == BURST
        now = 1.0
        log.warning("refused", number=200)
        log.warning("refused", number=201)

    assert [line["suppressed"] for line in lines[-2:]] == [200 - BURST, 0]
