from __future__ import annotations

import re

import pytest
from support import pages
from support.limit_tables import TABLES, rows


@pytest.mark.parametrize("heading", TABLES)
def test_every_limit_is_documented_with_its_shares(heading):
    section = re.split(rf"^## {heading}$", pages.text_of("limits.md"), flags=re.MULTILINE)[1]
    section = re.split(r"^#", section, flags=re.MULTILINE)[0]

    assert pages.rows(section) == pages.rows("\n".join(rows(TABLES[heading])))
