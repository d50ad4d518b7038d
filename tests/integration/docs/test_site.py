"""The site of docs/ is built strictly: each link within it leads somewhere, and each page is in its navigation."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from support.pages import DOCS, ROOT

NAVIGATION = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    project = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, project / "docs")
    for name in ("zensical.toml", "pyproject.toml"):
        shutil.copy(ROOT / name, project)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    subprocess.run([sys.executable, "-m", "harness.site_files", project / "build/site"], cwd=ROOT, check=True)
    return project / "build/site"


def pages(entries):
    for entry in entries:
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            yield from [target] if isinstance(target, str) else pages(target)


def test_every_page_but_decisions_is_in_the_navigation_once():
    there = [page.relative_to(DOCS).as_posix() for page in DOCS.glob("**/*.md") if page.parent.name != "adr"]
    assert sorted(pages(NAVIGATION)) == sorted(there)


def test_every_page_is_built(site):
    for page in pages(NAVIGATION):
        assert (site / page).with_suffix(".html").exists()


def test_llms_txt_lists_every_page_once(site):
    text = (site / "llms.txt").read_text(encoding="utf-8")
    lines = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): \S", text, re.MULTILINE)
    assert text.startswith("# Flowhook\n\n> ")
    assert sorted(lines) == sorted(page.removesuffix(".md") + ".html" for page in pages(NAVIGATION))
    assert [line for line in lines if not (site / line).exists()] == []


def test_the_site_has_the_openapi_document(site):
    assert json.loads((site / "openapi.json").read_bytes())["openapi"].startswith("3.1")


def test_nothing_is_fetched_from_elsewhere(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    assert not [each for each in ('src="http', "fonts.googleapis", "cdn.") if each in text]


def test_links_do_not_leave_the_site_for_files_of_the_repository(site):
    for page in site.glob("**/*.html"):
        assert 'href="../examples' not in page.read_text(encoding="utf-8"), page
