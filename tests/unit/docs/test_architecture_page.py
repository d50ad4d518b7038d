"""docs/architecture.md names files that exist, and passes through every part of the product."""

from __future__ import annotations

import re

import pytest
from support import pages
from support.cases import cases

FILES = sorted(set(re.findall(r"`([a-z_]+/[a-z_0-9/]+\.py)`", pages.text_of("architecture.md"))))


@cases("file", FILES)
def test_a_file_that_is_named_exists(file):
    assert (pages.ROOT / file).is_file()


@pytest.mark.parametrize("part", ["edge", "router/services", "router/dispatch", "router/storage", "runner/interpreter"])
def test_a_part_is_passed_through(part):
    assert [file for file in FILES if file.startswith(f"{part}/")]
