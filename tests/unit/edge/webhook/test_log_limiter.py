from __future__ import annotations

import pytest
import structlog
from support.clocks import Clock

from edge.webhook.log_limiter import BURST, FLOW_BURST, MAX_FLOWS, PerFlowLimiter, RateLimitedLogger


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(clock):
    return RateLimitedLogger(structlog.get_logger(), clock)


@pytest.fixture
def lines():
    with structlog.testing.capture_logs() as captured:
        yield captured


def test_a_flood_is_cut_and_counted(log, clock, lines):
    for number in range(200):
        log.warning("refused", flow="orders", number=number)
    assert len(lines) == FLOW_BURST
    clock.now = 1.0
    log.warning("refused", flow="orders", number=200)
    log.warning("refused", flow="orders", number=201)

    assert [line["suppressed"] for line in lines[-2:]] == [200 - FLOW_BURST, 0]


def test_a_flood_at_one_flow_hides_nothing_of_another_nor_of_what_concerns_none(log, lines):
    for _ in range(200):
        log.warning("refused", flow="flooded")
    log.warning("refused", flow="quiet")
    log.warning("router refused a batch")

    assert [(line.get("flow"), line["suppressed"]) for line in lines[-2:]] == [("quiet", 0), (None, 0)]


def test_all_flows_together_have_a_limit_too(log, clock, lines):
    for number in range(5 * MAX_FLOWS):
        log.warning("refused", flow=f"flow-{number}")
    assert len(lines) == BURST

    clock.now = 1.0
    log.warning("refused", flow=f"flow-{5 * MAX_FLOWS - 1}")
    assert lines[-1]["suppressed"] == 1


def test_the_number_of_flows_whose_suppressions_are_counted_is_bounded(clock):
    limiter = PerFlowLimiter(clock)
    for number in range(5 * MAX_FLOWS):
        limiter.admit(f"flow-{number}")
    assert len(limiter._suppressed) == MAX_FLOWS
