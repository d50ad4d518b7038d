"""What routers say of others whose tokens or clocks are not theirs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import structlog
from support.cases import cases

from flowhook.process.process_state import ProcessState
from router.cluster.records import MemberState, RouterRecord
from router.cluster.shard_map import ShardSituation
from router.cluster.watches import CLOCKS, RECENT_SECONDS, TOKENS, PeerDifferences

NOW = 1_700_000_000.0
OWN = RouterRecord(
    "r1", "a:1", "1", MemberState.SERVING, 1, 0, 5, candidate=False, tokens="aa", time_ms=int(NOW * 1000)
)


@pytest.fixture
async def state():
    return ProcessState(name="r1", role="router")


@pytest.fixture
def compare(state):
    """Look, with one other router as it announced itself so many seconds ago."""
    others = []
    differences = PeerDifferences("r1", state, lambda: ShardSituation(None, [(OWN, 0.0), *others], ()), now=lambda: NOW)

    def compare(silence=0.2, **fields):
        record = replace(OWN, router="r2", **{"time_ms": int((NOW - silence) * 1000)} | fields)
        others[:] = [(record, silence)]
        differences.look()
        return state.warnings

    return compare


def test_routers_that_are_alike_say_nothing(compare):
    for _ in range(3):
        assert compare() == {}
    assert compare(tokens="") == {}
    assert compare(time_ms=0) == {}


def test_other_tokens_are_said_once_they_have_lasted_and_until_they_are_the_same(compare):
    with structlog.testing.capture_logs() as logs:
        assert compare(tokens="bb") == {}  # they may be on their way
        for _ in range(3):
            assert compare(tokens="bb") == {TOKENS: "tokens.json is not that of r2: copy one to all"}
        assert compare() == {}
    assert [entry["log_level"] for entry in logs] == ["warning", "info"]


@pytest.mark.parametrize(
    ("ahead", "said"), [(60, "the clock is 60 s behind that of r2"), (-60, "the clock is 60 s ahead of that of r2")]
)
def test_a_clock_that_is_another_one_is_said(compare, ahead, said):
    fields = {"time_ms": int((NOW + ahead - 0.2) * 1000)}
    assert compare(**fields) == {}
    assert compare(**fields) == {CLOCKS: f"{said}: synchronise the clocks"}


def test_a_router_that_is_gone_is_not_compared_with(compare):
    compare(tokens="bb")
    assert compare(silence=RECENT_SECONDS, tokens="bb", time_ms=1) == {}


@cases(("ahead", "says"), [(["r1"], True), (["r2"], False), (["r1", "r2"], False), (["r2", "r3"], True)])
def test_of_three_routers_only_the_one_whose_clock_is_wrong_says_so(ahead, says):
    state = ProcessState(name="r1", role="router")
    clocks = {name: NOW + 60 * (name in ahead) for name in ("r1", "r2", "r3")}
    copies = [(replace(OWN, router=name, time_ms=int(now * 1000)), 0.0) for name, now in clocks.items()]
    differences = PeerDifferences("r1", state, lambda: ShardSituation(None, copies, ()), now=lambda: clocks["r1"])
    for _ in range(2):
        differences.look()
    assert (CLOCKS in state.warnings) is says
