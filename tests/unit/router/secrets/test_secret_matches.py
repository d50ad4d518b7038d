"""When secrets last verified a request."""

from __future__ import annotations

from router.secrets.secret_matches import SecretMatches


def test_the_last_match_of_each_pair_is_noted():
    matches = SecretMatches(5)
    for flow, secret, now in (("a", "x", 10), ("a", "y", 20), ("b", "x", 30), ("a", "x", 40)):
        matches.note(flow, secret, now)
    assert [matches.last(*pair) for pair in (("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"))] == [40, 20, 30, None]
    assert matches.since_ms == 5


def test_the_number_of_pairs_is_bounded():
    matches = SecretMatches(0, max_pairs=2)
    for number in range(4):
        matches.note("a", f"s{number}", number + 1)
    assert [matches.last("a", f"s{number}") for number in range(4)] == [None, None, 3, 4]


def test_names_that_no_secret_has_are_not_noted():
    matches = SecretMatches(0)
    matches.note("a", "", 1)
    matches.note("a", "x" * 128, 1)
    assert matches.last("a", "") is None
    assert matches.last("a", "x" * 128) is None
