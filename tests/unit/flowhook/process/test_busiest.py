"""Which flows are counted apart."""

from __future__ import annotations

from flowhook.process.busiest import MAX_CANDIDATES, RANK_SECONDS, Busiest
from flowhook.process.metric_table import OTHER


class Counts:
    def __init__(self):
        self.number = 0

    def total(self):
        return self.number


def counted(busiest, *keys):
    for key in keys:
        busiest.of(key).number += 1


def shown(busiest):
    return {key: counts.number for key, counts in busiest.items()}


def test_the_first_ones_are_counted_apart_and_others_together():
    busiest = Busiest(Counts, size=2)
    counted(busiest, "a", "b", "c", "a", "d")
    assert shown(busiest) == {"a": 2, "b": 1, OTHER: 2}


def test_there_are_no_others_without_any():
    assert shown(Busiest(Counts, size=2)) == {}


def test_busier_ones_take_the_places_of_others_and_every_series_grows_or_begins_anew():
    busiest = Busiest(Counts, size=2)
    counted(busiest, "a", "b", *"c" * 5, *"a" * 9)
    busiest.rank(RANK_SECONDS)
    assert shown(busiest) == {"a": 10, "c": 0, OTHER: 5}
    counted(busiest, "b", "c")
    assert shown(busiest) == {"a": 10, "c": 1, OTHER: 6}


def test_places_do_not_go_to_and_fro():
    busiest = Busiest(Counts, size=1)
    counted(busiest, *"aab" * 10)
    busiest.rank(RANK_SECONDS)
    counted(busiest, *"abb" * 10)
    busiest.rank(2 * RANK_SECONDS)
    assert list(busiest) == ["a"]


def test_only_what_was_done_since_the_last_ranking_counts():
    busiest = Busiest(Counts, size=1)
    counted(busiest, *"a" * 1000)
    busiest.rank(RANK_SECONDS)
    counted(busiest, *"b" * 3)
    busiest.rank(2 * RANK_SECONDS - 1)
    assert list(busiest) == ["a"]
    busiest.rank(2 * RANK_SECONDS)
    assert list(busiest) == ["b"]


def test_what_is_noted_of_others_is_bounded():
    busiest = Busiest(Counts, size=200)
    counted(busiest, *(f"flow-{number}" for number in range(100_000)))
    assert len(busiest._candidates) == MAX_CANDIDATES
    assert sum(shown(busiest).values()) == 100_000
    assert len(shown(busiest)) == 201
    busiest.rank(RANK_SECONDS)
    assert sum(shown(busiest).values()) <= 100_000
    assert len(shown(busiest)) == 201


def test_a_place_that_is_given_up_is_free():
    busiest = Busiest(Counts, size=1)
    counted(busiest, "a")
    busiest.forget("a")
    counted(busiest, "b")
    assert shown(busiest) == {"b": 1}
