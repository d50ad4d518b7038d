from __future__ import annotations

import re

import pytest
from support import pages
from support.cases import cases
from support.settings_tables import TABLES, table

from admin.application import PAGES
from flowhook.security import tokens

PAGE = pages.text_of("operations.md")


def settings():
    for page, tables in TABLES.items():
        for heading, model in tables.items():
            yield pytest.param(page, heading, model, id=f"{page}: {heading}")


@cases(("page", "heading", "model"), list(settings()))
def test_every_setting_is_documented_with_option_and_default(page, heading, model):
    section = re.split(rf"^#+ {heading}$", pages.text_of(page), flags=re.MULTILINE)[1]
    section = re.split(r"^#", section, flags=re.MULTILINE)[0]
    reported = [row[:3] for row in pages.rows(section)]

    assert reported == [row[:3] for row in pages.rows("\n".join(table(model)))]


def test_every_scope_is_documented():
    section = PAGE.partition("## Tokens")[2].partition("\n## ")[0]

    assert {row[0].strip("`") for row in pages.rows(section) if row[0].startswith("`")} == set(tokens.TokenScope)


def test_every_path_of_admin_is_documented():
    served = {path for path, handler in PAGES if handler.__module__ == "admin.status_handlers"} | {"/"}
    section = PAGE.partition("## Health")[2].partition("\n## ")[0]

    assert {row[0].strip("`") for row in pages.rows(section) if row[0].startswith("`")} == served
