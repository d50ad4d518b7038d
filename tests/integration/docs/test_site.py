"""The site of docs/ is built strictly: each link within it leads somewhere, and each page is in its navigation."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from support.browsers import chromium
from support.cases import cases
from support.pages import DOCS, ROOT

from harness import site_files, site_versions

NAVIGATION = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    project = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, project / "docs")
    shutil.copytree(ROOT / "harness" / "site_theme", project / "harness" / "site_theme")
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


def test_the_site_has_the_schema_of_flow_files(site):
    schema = json.loads((site / "schema/flow.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    flow = YAML(typ="safe", pure=True).load(ROOT / "examples" / "hello.yaml")
    Draft202012Validator(schema).validate(flow)


def test_versions_of_the_site_are_told_newest_first_and_the_newest_release_is_the_latest(site, tmp_path):
    for version in ("0.9.0", "main", "0.10.0", "1.0.0rc1", "0.9.0"):
        site_versions.add_version(site, tmp_path, version)
    versions = json.loads((tmp_path / "versions.json").read_bytes())
    assert [each["version"] for each in versions] == ["0.10.0", "0.9.0", "1.0.0rc1", "main"]
    assert [each["version"] for each in versions if "latest" in each["aliases"]] == ["0.10.0"]
    assert (tmp_path / "latest").resolve() == tmp_path / "0.10.0"
    assert all((tmp_path / each["version"] / "index.html").exists() for each in versions)
    assert 'url=latest/"' in (tmp_path / "index.html").read_text(encoding="utf-8")


async def test_a_version_leads_to_the_same_page_of_another_and_tells_that_it_is_not_the_latest(site, tmp_path):
    for version in ("0.9.0", "0.10.0"):
        site_versions.add_version(site, tmp_path, version)
    gone = tmp_path / "0.10.0" / "how-to" / "waiting.html"
    gone.unlink()
    (tmp_path / "0.10.0" / "sitemap.xml").write_text(site_files.sitemap(tmp_path / "0.10.0"), encoding="utf-8")
    handler = functools.partial(QuietHandler, directory=tmp_path)
    with serving(handler) as url:
        async with chromium() as browser:
            tab = await browser.new_page()

            async def choose(version):
                await tab.locator(".md-version").hover()
                await tab.locator(".md-version__link", has_text=re.compile(rf"^\s*{re.escape(version)}")).click()

            banner = tab.get_by_text("This is not the documentation of the latest version.")
            await tab.goto(f"{url}/0.9.0/how-to/shaping.html")
            await banner.wait_for()
            await choose("0.10.0")
            await tab.wait_for_url(f"{url}/0.10.0/how-to/shaping.html")
            await banner.wait_for(state="hidden")
            await tab.goto(f"{url}/0.9.0/how-to/waiting.html")
            await choose("0.10.0")
            await tab.wait_for_url(f"{url}/0.10.0/")
            await tab.goto(f"{url}/0.9.0/how-to/shaping.html")
            await tab.get_by_role("link", name="Go to the latest version.").click()
            await tab.wait_for_url(f"{url}/latest/")
            assert await tab.get_by_role("heading", name="Flowhook").first.is_visible()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def serving(handler):
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@cases("version", ["latest", "", "..", "a/b", "../b"])
def test_a_version_is_the_name_of_one_folder(version, tmp_path):
    with pytest.raises(ValueError, match="can't be the name"):
        site_versions.add_version(tmp_path, tmp_path, version)


def test_nothing_is_fetched_from_elsewhere(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    assert not [each for each in ('src="http', "fonts.googleapis", "cdn.") if each in text]


def test_links_do_not_leave_the_site_for_files_of_the_repository(site):
    for page in site.glob("**/*.html"):
        assert 'href="../examples' not in page.read_text(encoding="utf-8"), page
