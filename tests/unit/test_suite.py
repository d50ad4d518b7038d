"""The tables of the suite name files that are there."""

from __future__ import annotations

from pathlib import Path

from support.suite import GROUPS, RELEASE

ROOT = Path(__file__).parents[2]


def test_each_path_is_one_of_tests():
    assert [path for path in (*GROUPS, *RELEASE) if not (ROOT / path).exists()] == []
