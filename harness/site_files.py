"""Files of the site beside its pages: `llms.txt`, `openapi.json`, `sitemap.xml`, and `schema/flow.json` for editors.

`llms.txt` is the list of all pages for language models. From `sitemap.xml` the selector of versions knows which pages a
version has; it takes the first URL for the address of the version, whatever that is.

Run: .venv/bin/python -m harness.site_files build/site

Source: https://llmstxt.org
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from admin.api import openapi
from cli.commands.components import installed_schema

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
OPTIONAL: Final = frozenset({"Providers", "Contributing"})
"""Sections that may be left out where a shorter list is wanted."""

_ANY_ADDRESS: Final = "https://docs.invalid/"
_LINK: Final = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def llms_text() -> str:
    """Return the list of all pages of the navigation, by section, each with its title and its first sentence."""
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    sections: dict[str, list[str]] = {}
    for section, page in _pages(project["nav"], project["site_name"]):
        sections.setdefault("Optional" if section in OPTIONAL else section, []).append(_line(page))
    text = f"# {project['site_name']}\n\n> {project['site_description']}\n"
    for section in sorted(sections, key=lambda name: name == "Optional"):  # the format wants it last
        text += f"\n## {section}\n\n" + "".join(f"{line}\n" for line in sections[section])
    return text


def _pages(entries: list[Any], section: str) -> Iterator[tuple[str, str]]:
    for entry in entries:
        for name, target in entry.items() if isinstance(entry, dict) else [(section, entry)]:
            if isinstance(target, str):
                yield section if isinstance(entry, dict) else name, target
            else:
                yield from _pages(target, name)


def _line(page: str) -> str:
    title, _, text = (DOCS / page).read_text(encoding="utf-8").partition("\n")
    paragraphs = (each for each in re.split(r"\n\s*\n", text.strip()) if not each.startswith(("```", "#", "|", "<")))
    first = " ".join(_LINK.sub(r"\1", next(paragraphs, "")).split())
    sentence = re.split(r"(?<=[.:])\s", first)[0].rstrip(":")
    url = page.removesuffix(".md") + ".html"
    return f"- [{title.lstrip('# ')}]({url})" + (f": {sentence}" if sentence else "")


def sitemap(site: Path) -> str:
    """Return the list of all pages of a built site."""
    pages = sorted(page.relative_to(site).as_posix() for page in site.glob("**/*.html") if page.name != "404.html")
    urls = "".join(f"<url><loc>{_ANY_ADDRESS}{page}</loc></url>\n" for page in ("", *pages))
    return f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{urls}</urlset>\n'


def main() -> None:
    site = Path(sys.argv[1])
    (site / "sitemap.xml").write_text(sitemap(site), encoding="utf-8")
    (site / "llms.txt").write_text(llms_text(), encoding="utf-8")
    (site / "schema").mkdir(exist_ok=True)
    for name, content in (("openapi.json", openapi.description()), ("schema/flow.json", installed_schema())):
        (site / name).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
