"""The documentation of the console: every link leads somewhere, and nothing in it breaks the policy."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from support.cases import cases
from support.pages import anchors

from admin.console import documentation as module
from admin.console import rendering
from admin.console.documentation import documentation
from admin.shipped_files import read_shipped, shipped_paths

ROOT = Path(__file__).parents[4]
TEMPLATES = ROOT / "admin" / "console"
ALL = documentation()
HELP = re.compile(r'{% set help = "(.*)" %}')
HELP_OF = {path.name: found[1] for path in TEMPLATES.glob("*.html") if (found := HELP.search(path.read_text()))}


class Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@cases("name", ALL.names)
def test_each_page_is_rendered_and_its_links_lead_to_pages_and_anchors(name):
    document = ALL.document(name)
    tags = Tags(document.html).tags
    assert document.title
    for tag, attributes in tags:
        assert "style" not in attributes
        assert tag not in ("script", "style", "iframe", "form", "input")
        if tag == "img":
            assert ALL.image(attributes["src"].removeprefix("/docs/")), attributes
        target = attributes.get("href", "")
        if target.startswith("/docs/"):
            linked, _, anchor = target.removeprefix("/docs/").partition("#")
            assert not anchor or anchor in ALL.document(unquote(linked)).anchors, target
        elif target.startswith("#"):
            assert target[1:] in document.anchors, target
        elif target.startswith("/apply?example="):
            assert target.partition("=")[2] in ALL.examples
        elif tag == "a":
            assert re.match(r"https?://|/apply$|mailto:", target), target


@cases("name", [path.stem for path in (ROOT / "docs").glob("*.md")])
def test_the_anchors_are_those_that_links_in_the_source_have(name):
    assert anchors(ROOT / "docs" / f"{name}.md") <= ALL.document(name).anchors


@cases("target", sorted({*HELP_OF.values(), "console"}))
def test_the_help_of_each_page_exists(target):
    name, _, anchor = target.partition("#")
    document = ALL.document(name)
    assert not anchor or anchor in document.anchors


def test_each_page_leads_to_its_documentation():
    values = {"section": "", "role": None, "operator": False, "notice": "", "csrf_token": "", "errors": {}}
    error = {"status": 404, "title": "Not Found", "message": "", "reason": ""}
    page = {"incidents": [], "next_page_token": ""}
    assert HELP_OF["flow.html"] == "flow-file"
    incidents = rendering.render("incidents.html", page=page, first=True, older="", **values)
    assert 'href="/docs/console#incidents">Help' in incidents
    assert 'href="/docs/console">Help' in rendering.render("error.html", **error, **values)


def test_html_in_the_source_is_text_and_what_is_not_shipped_is_no_link():
    files = {
        "docs/a.md": b"# A <b>\n\n<script>alert(1)</script> [x](javascript:alert(1)) [code](../flowhook/model.py)\n\n"
        b"[b](b.md#c) ![p](p.png) [mine](../examples/hello.yaml) [all](../examples/)\n\n## Same\n\n## Same\n\n"
        b"| a | b |\n|--:|---|\n| 1 | `<i>` |\n",
        "docs/b.md": b"# B\n",
        "examples/hello.yaml": b"do: []\n",
    }
    markdown = documentation()._markdown
    html = module.Documentation(files, markdown).document("a").html
    assert "<script" not in html
    assert "javascript:" not in re.sub(r">[^<]*<", "><", html)
    assert "model.py" not in html
    assert 'href="/docs/b#c"' in html
    assert 'href="/apply?example=hello"' in html
    assert 'href="/apply"' in html
    assert ('id="same"' in html, 'id="same-1"' in html) == (True, True)
    assert '<div class="scroll" tabindex="0"><table>' in html
    assert "style=" not in html
    assert "<i>" in unescape(html)


def test_every_page_and_every_example_of_the_repository_is_shipped():
    shipped = set(shipped_paths(ROOT))
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("**/*.md")} <= shipped
    assert {f"examples/{path.name}" for path in (ROOT / "examples").glob("*")} <= shipped
    assert read_shipped().keys() == shipped
    assert len(ALL.examples) == len(list((ROOT / "examples").iterdir()))
