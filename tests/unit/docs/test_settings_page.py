"""docs/settings.md lists every setting of every process. `FLOWHOOK_RENEW_DOCS=1` renews it."""

from __future__ import annotations

import os

from support import pages
from support.settings_tables import TABLES, table

PAGE = pages.DOCS / "settings.md"
HEAD = """# Settings

This page lists the environment variables of all processes by name, with their defaults. What each means is in
the section that is linked; [settings](operations.md#settings) says how they are read, and which have a
counterpart [in a file](operations.md#secrets-in-files). It is generated from the code.

| variable | option | default | described for |
|---|---|---|---|
"""


def page():
    found: dict[str, tuple[str, str, list[str]]] = {}
    for file, tables in TABLES.items():
        for heading, model in tables.items():
            link = f"[{heading}]({file}#{heading.lower().replace(' ', '-')})"
            for variable, option, default, _ in pages.rows("\n".join(table(model)))[1:]:
                if variable.startswith("`"):
                    found.setdefault(variable, (option, default, []))[2].append(
                        link if default == found[variable][1] else f"{link}, default {default}"
                    )
    lines = (
        f"| {variable} | {option} | {default} | {'; '.join(links)} |\n"
        for variable, (option, default, links) in sorted(found.items())
    )
    return HEAD + "".join(lines)


def test_the_page_lists_every_setting():
    if os.environ.get("FLOWHOOK_RENEW_DOCS"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "renew it with FLOWHOOK_RENEW_DOCS=1"
    assert len(pages.rows(page())) > 60
