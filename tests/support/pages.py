"""The pages under docs/, and those beside README.md, as tests see them: blocks of code, tables, headings, links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.glob("**/*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class CodeBlock(NamedTuple):
    """A block of code. `before` is the text between it and the block before."""

    page: str
    line: int
    language: str
    text: str
    before: str

    def __str__(self):
        return f"{self.page}:{self.line}"


def name_of(path):
    """Return the path of a page in the repository: pages in different folders may have one file name."""
    return path.relative_to(ROOT).as_posix()


def text_of(name):
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(path):
    text = path.read_text(encoding="utf-8")
    found, end = [], 0
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        found.append(CodeBlock(path.name, line, match[1], match[2], text[end : match.start()]))
        end = match.end()
    return found


def all_blocks(language):
    return [block for path in PAGES for block in blocks(path) if block.language == language]


def rows(text):
    """Return the cells of all rows of all tables, backticks included."""
    found = []
    for line in text.splitlines():
        if line.startswith("| ") and line.endswith("|"):
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            found.append([cell.strip().replace("\\|", "|") for cell in cells])
    return found


def anchors(path):
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    return {_anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def links(path):
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    return re.findall(r"\]\(([^)\s]+)\)", text)


def _anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
