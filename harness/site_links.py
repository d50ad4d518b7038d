"""An extension of Markdown for the site of docs/: a link to a file outside docs/ leads to the repository.

On a code host such links work as they are; a site has only what is under docs/. Where the repository is,
`FLOWHOOK_REPOSITORY_URL` says, as for the distributions; without it such a link is plain text.
"""

from __future__ import annotations

import os
import re
from typing import Final
from xml.etree.ElementTree import Element

from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor

# a folder of the repository other than docs/, from a page in docs/ or in a folder in it
_OUTSIDE: Final = re.compile(r"(?:\.\./)+(?=(?:clients|deploy|examples|flowhook|protos|router|runner|tests)/)")


class _Links(Treeprocessor):
    def run(self, root: Element) -> None:
        for link in root.iter("a"):
            if not _OUTSIDE.match(target := link.get("href", "")):
                continue
            if repository := os.environ.get("FLOWHOOK_REPOSITORY_URL"):
                link.set("href", _OUTSIDE.sub(f"{repository}/blob/main/", target))
            else:
                link.tag, link.attrib = "span", {}


class SiteLinks(Extension):
    """The extension, as Python-Markdown takes it."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        md.treeprocessors.register(_Links(md), "site_links", 0)


def makeExtension(**settings: object) -> SiteLinks:  # noqa: N802
    return SiteLinks(**settings)
