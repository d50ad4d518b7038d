from __future__ import annotations

from support import pages
from support.cases import cases


@cases("path", pages.PAGES, ids=pages.name_of)
def test_every_relative_link_leads_somewhere(path):
    broken = []
    for link in pages.links(path):
        if "://" in link or link.startswith("mailto:"):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (anchor and anchor not in pages.anchors(file)):
            broken.append(link)
    assert broken == []


@cases("path", pages.PAGES, ids=pages.name_of)
def test_every_block_of_code_is_closed(path):
    assert path.read_text(encoding="utf-8").count("\n```") % 2 == 0
