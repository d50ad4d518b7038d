"""CHANGELOG.md has the form of Keep a Changelog, and knows the version."""

from __future__ import annotations

import re
from pathlib import Path

import flowhook

PAGE = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]


def test_what_is_not_released_yet_comes_first_and_every_release_has_a_date():
    first, *released = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)

    assert first == "[Unreleased]"
    assert [heading for heading in released if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading)] == []


def test_changes_are_sorted_by_kind():
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.*)$", section, re.MULTILINE)
        assert kinds == [kind for kind in KINDS if kind in kinds]


def test_the_version_is_in_it():
    released = f"## [{flowhook.__version__}] - "
    next_one = re.search(r"^This will be (\S+),", PAGE, re.MULTILINE)

    assert released in PAGE or (next_one and next_one[1] == flowhook.__version__)
