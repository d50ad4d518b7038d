"""`flowhook overview` against a running cluster."""

from __future__ import annotations

from support.commands import send_event, wait_for_end

from cli.commands.flows import OVERVIEW_ROWS, WIDTH, blocks


def row(result, name):
    return next(line for line in result.out.splitlines() if line.startswith(name)).split()


def test_it_shows_the_period_and_the_one_before_with_bars(cluster):
    wait_for_end(cluster, send_event(cluster, "hello", "{}"))
    wait_for_end(cluster, send_event(cluster, "faulty", "{}"))
    good, bad = cluster.run("overview", "hello"), cluster.run("overview", "faulty", "--period", "30d")
    assert int(row(good, "completed")[1]) >= 1
    assert "█" in row(good, "accepted")[-1]
    assert row(good, "faulted") == ["faulted", "0", "0"]
    assert "storage" not in good.out
    assert int(row(bad, "faulted")[1]) >= 1
    assert all(len(line) <= 80 for line in bad.out.splitlines())
    everything = cluster.run("overview")
    assert int(row(everything, "accepted")[1]) >= 2
    assert "MiB" in everything.out


def test_other_periods_and_flows_that_there_are_not_are_refused(cluster):
    wrong, unknown = cluster.run("overview", "--period", "1y"), cluster.run("overview", "nobody")
    assert (wrong.code, unknown.code) == (2, 1)
    assert "'30d'" in wrong.err
    assert "nobody" in unknown.err


def test_values_have_units_that_people_read():
    text = {name: as_text for name, _, as_text in OVERVIEW_ROWS}
    assert text["oldest pending"](502.7) == "8 min 22 s"
    assert text["latency p99"](0.016) == "16 ms"
    assert (text["storage"](3 * 2**20), text["storage"](0)) == ("3.0 MiB", "-")


def test_a_block_is_as_high_as_the_greatest_of_its_numbers():
    assert blocks([0, None, 1, 4, 8]) == "  ▂▅█"
    assert blocks([None, 0.0]) == "  "
    assert blocks([1.0] * 95 + [2.0]) == "▅" * (WIDTH - 1) + "█"
