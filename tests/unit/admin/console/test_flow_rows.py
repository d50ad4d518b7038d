"""The rows of the list of flows."""

from __future__ import annotations

import gzip
import random
from dataclasses import replace
from datetime import UTC, datetime

from admin.console import rendering
from flowhook.model import Flow
from flowhook.model.flows import FlowStatistics, NamedSecret
from operations.flows import FlowPage, listed, numbers

NOW = datetime.now(UTC)
NOW_MS = round(NOW.timestamp() * 1000)


def busy(number, chance):
    """A flow with counts in each minute, as different as they may be."""
    counts = [tuple(chance.randrange(100_000) for _ in range(60)) for _ in range(3)]
    statistics = FlowStatistics(
        Flow(f"a-rather-long-name-of-a-flow-{number}", b"", b"", 1, False, True, 0, 0, NOW_MS),
        *counts,
        *(chance.randrange(1_000_000) for _ in range(4)),
        NOW_MS - chance.randrange(10**7),
        NOW_MS - chance.randrange(10**7),
        tuple(NamedSecret(f"secret-{number}-{index}", index > 2, True, True) for index in range(8)),
    )
    return listed(statistics, NOW)


def test_the_rows_of_a_page_are_small_whatever_there_is_to_show():
    chance = random.Random(7)
    page = FlowPage(tuple(busy(number, chance) for number in range(100)), "")
    rows = rendering.render("flow_rows.html", page=page)
    assert len(gzip.compress(rows.encode())) < 55_000
    assert rows.count("<svg") == 100


def test_at_most_three_missing_secrets_are_named():
    chance = random.Random(7)
    row = rendering.render("flow_rows.html", page=FlowPage((busy(1, chance),), ""))
    assert row.count("/secrets?name=") == 3
    assert "and 2 more" in row


def test_an_idle_flow_shows_no_zeros():
    flow = busy(1, random.Random(7))
    idle = numbers(
        FlowStatistics(
            Flow("a", b"", b"", 1, False, True, 0, 0), (0,) * 60, (0,) * 60, (0,) * 60, 0, 0, 0, 0, None, None, ()
        ),
        NOW,
    )
    row = rendering.render("flow_rows.html", page=FlowPage((replace(flow, numbers=idle, next_time_ms=None),), ""))
    assert ">0" not in row
    assert "None" not in row
    assert row.count("<td></td>") + row.count('<td class="num"></td>') == 5


def test_the_numbers_of_one_flow_stand_in_a_block():
    flow = busy(1, random.Random(7))
    text = rendering.render("flow_numbers.html", flow=flow, numbers=flow.numbers, rejected=[])
    assert f"{flow.numbers.accepted_in_hour:,} accepted" in text
    assert f"{flow.numbers.pending:,} pending" in text
    assert text.count("is not set") == 5
    assert "counted since" in text
    assert "Rejected" not in text
