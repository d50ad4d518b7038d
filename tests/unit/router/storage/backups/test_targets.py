"""Names of backups, and which of them are kept."""

import pytest

from router.storage.backups.targets import KeepPolicy, file_name, time_of

DAY = 86_400
MONDAY = 1_796_040_000 - 1_796_040_000 % DAY - 2 * 7 * DAY  # 2026-11-16, 00:00 UTC


def names(*days):
    return [file_name(MONDAY + day * DAY) for day in days]


def kept(policy, *days):
    found = names(*days)
    surplus = policy.surplus(found)
    assert surplus == sorted(surplus)
    return [day for day, name in zip(days, found, strict=True) if name not in surplus]


def test_a_name_says_when_it_was_made():
    assert file_name(0) == "flowhook-19700101T000000Z.tar.zst"
    assert time_of(file_name(MONDAY)) == MONDAY
    assert file_name(MONDAY) == "flowhook-20261116T000000Z.tar.zst"


@pytest.mark.parametrize(
    "name",
    ["", "notes.txt", "flowhook-20261116T000000Z.tar.zst.partial", "flowhook-20269916T000000Z.tar.zst", "../flowhook"],
)
def test_other_names_are_nobodys_backups_and_never_removed(name):
    assert time_of(name) is None
    assert KeepPolicy(1, 0, 0).surplus([name, *names(0, 1)]) == names(0)


def test_the_newest_ones_are_kept_and_the_newest_of_all_always():
    assert kept(KeepPolicy(3, 0, 0), 0, 1, 2, 3, 4) == [2, 3, 4]
    assert kept(KeepPolicy(0, 0, 0), 0, 1) == [1]
    assert kept(KeepPolicy(1, 0, 0)) == []


def test_the_one_that_was_just_made_is_kept_beside_those_of_a_clock_that_was_ahead():
    assert KeepPolicy(1, 0, 0).surplus(names(0, 1, 400, 401), names(1)[0]) == names(0, 400)


def test_of_each_day_the_last_is_kept_however_long_ago_it_was():
    assert kept(KeepPolicy(1, 2, 0), 0, 0.5, 5, 5.2, 5.9) == [0.5, 5.9]


def test_of_each_week_the_last_is_kept():
    assert kept(KeepPolicy(1, 0, 3), 0, 3, 6.9, 7, 13, 14, 15) == [6.9, 13, 15]


def test_rules_add_up():
    assert kept(KeepPolicy(2, 2, 2), *range(16)) == [13, 14, 15]


def test_after_a_year_of_backups_a_day_few_are_left_and_none_is_removed_twice():
    stored = []
    for day in range(365):
        stored = [day, *stored]
        stored = kept(KeepPolicy(3, 7, 4), *stored)
    assert sorted(stored) == [349, 356, *range(358, 365)]
