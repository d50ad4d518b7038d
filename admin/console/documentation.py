"""The documentation as pages of the console: Markdown from `admin.shipped_files`, as HTML that the policy permits.

Links among pages lead to pages, links to example flows to the form that applies them. What is not shipped, such as
source code, is named without a link. Raw HTML in the source is shown as text.

Source: https://spec.commonmark.org; https://github.github.com/gfm/#tables-extension-; anchors are those of GitHub.
"""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from markupsafe import Markup

from admin.console.page import ConsolePage
from admin.shipped_files import read_shipped
from flowhook.errors import NotFoundError

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

PREFIX: Final = "/docs"
IMAGE_TYPES: Final = {".png": "image/png", ".svg": "image/svg+xml"}
_SCROLL: Final = '<div class="scroll" tabindex="0">'


_REASON: Final = re.compile(r"`([A-Z]+(?:_[A-Z]+)*)`")


@dataclass(frozen=True, slots=True)
class RenderedDocument:
    """A page of the documentation: `name` is the last part of its URL, `anchors` those of its headings."""

    name: str
    title: str
    html: Markup
    anchors: frozenset[str]


class Documentation:
    """All documents, which are rendered when they are asked for, and the files beside them."""

    def __init__(self, files: Mapping[str, bytes], markdown: MarkdownIt) -> None:
        self._markdown = markdown
        self._paths = {_name(path): path for path in files if path.endswith(".md")}
        self._files = files
        self._rendered: dict[str, RenderedDocument] = {}

    @property
    def names(self) -> list[str]:
        return sorted(self._paths)

    @property
    def examples(self) -> dict[str, str]:
        return {
            posixpath.basename(path).removesuffix(".yaml"): content.decode()
            for path, content in self._files.items()
            if path.endswith(".yaml")
        }

    def image(self, name: str) -> bytes | None:
        """Return a picture of the documents, by its URL behind the prefix; None if absent."""
        return self._files.get(f"docs/{name}") if posixpath.splitext(name)[1] in IMAGE_TYPES else None

    def title(self, name: str) -> str:
        first = self._files[self._paths[name]].decode().lstrip().partition("\n")[0]
        return first.lstrip("# ")

    def document(self, name: str) -> RenderedDocument | None:
        path = self._paths.get(name)
        if path is None:
            return None
        if name not in self._rendered:
            self._rendered[name] = self._render(name, path)
        return self._rendered[name]

    def _render(self, name: str, path: str) -> RenderedDocument:
        tokens = self._markdown.parse(self._files[path].decode())
        anchors: list[str] = []
        for token, following in zip(tokens, [*tokens[1:], None], strict=True):
            token.attrs.pop("style", None)  # the alignment of a cell, which the policy does not permit
            if token.type == "heading_open" and following is not None:
                anchors.append(_unused(re.sub(r"[^\w\- ]", "", _text(following).lower()).replace(" ", "-"), anchors))
                token.attrs["id"] = anchors[-1]
            reason = _REASON.fullmatch(following.content) if token.type == "td_open" and following else None
            if reason is not None and reason[1].lower() not in anchors:  # what the `type` of a problem refers to
                anchors.append(reason[1].lower())
                token.attrs["id"] = anchors[-1]
            if token.children:
                token.children = list(self._linked(token.children, posixpath.dirname(path)))
        html = self._markdown.renderer.render(tokens, self._markdown.options, {})
        html = html.replace("<table>", f"{_SCROLL}<table>").replace("</table>", "</table></div>")
        html = html.replace("<pre>", '<pre tabindex="0">')
        return RenderedDocument(name, self.title(name), Markup(html), frozenset(anchors))  # noqa: S704 - escapes all text

    def _linked(self, tokens: list[Token], folder: str) -> Iterator[Token]:
        """Yield inline tokens with links that lead somewhere; of others the text only."""
        open_links: list[bool] = []
        for token in tokens:
            if token.type == "link_open":
                target = self._target(str(token.attrs["href"]), folder)
                open_links.append(target is not None)
                if target is None:
                    continue
                token.attrs["href"] = target
                if not target.startswith(("/", "#")):
                    token.attrs["rel"] = "noreferrer"
            elif token.type == "link_close" and not open_links.pop():
                continue
            elif token.type == "image":
                token.attrs["src"] = self._target(str(token.attrs["src"]), folder) or ""
            yield token

    def _target(self, href: str, folder: str) -> str | None:
        """Return the URL that a link in a file of a folder leads to; None: it is not shipped."""
        parts = urlsplit(href)
        if parts.scheme or not parts.path:
            return href
        path = posixpath.normpath(posixpath.join(folder, parts.path))
        if path == "examples":
            return "/apply"
        if path not in self._files:
            return None
        if path.endswith(".yaml"):
            return f"/apply?example={quote(posixpath.basename(path).removesuffix('.yaml'))}"
        name = _name(path) if path.endswith(".md") else path.removeprefix("docs/")
        return f"{PREFIX}/{quote(name)}{f'#{parts.fragment}' if parts.fragment else ''}"


@cache
def documentation() -> Documentation:
    """Return the documentation that ships with the package.

    Blocking the first time, for 0.1 s: the process loads it once it is ready (`ProcessState.late_loads`).
    """
    from markdown_it import MarkdownIt  # noqa: PLC0415 - 50 ms of CPU time, which nobody waits for at the start

    return Documentation(read_shipped(), MarkdownIt("commonmark", {"html": False}).enable("table"))


def _unused(anchor: str, used: list[str]) -> str:
    number, candidate = 0, anchor
    while candidate in used:
        number += 1
        candidate = f"{anchor}-{number}"
    return candidate


def _name(path: str) -> str:
    return path.removeprefix("docs/").removesuffix(".md").lower()


def _text(token: Token) -> str:
    return "".join(child.content for child in token.children or () if child.type in ("text", "code_inline"))


class PublicPage(ConsolePage):
    """Base class of pages that need no session; one that there is shows the menu."""

    def authenticate(self) -> None:
        """Ask for nothing."""
        self.session = self.find_session(use=False)

    def authorize(self) -> None:
        """Permit everybody."""


class DocumentationPage(PublicPage):
    """A page of the documentation, or a picture of one."""

    async def show(self, *values: str) -> None:
        name = values[0]
        pages = await asyncio.to_thread(documentation)
        image = pages.image(name)
        if image is not None:
            self.set_header("Content-Type", IMAGE_TYPES[posixpath.splitext(name)[1]])
            self.set_header("Cache-Control", "public, max-age=3600")
            self.finish(image)
            return
        document = await asyncio.to_thread(pages.document, name)
        if document is None:
            raise NotFoundError(f"there is no page {name[:100]} in the documentation", reason="DOCUMENT_NOT_FOUND")
        self.finish_page("document.html", document=document)


class DocumentationIndex(PublicPage):
    """The list of all pages."""

    async def show(self, *_values: str) -> None:
        pages = await asyncio.to_thread(documentation)
        shown = [(name, pages.title(name)) for name in pages.names]
        self.finish_page(
            "documents.html",
            guides=[each for each in shown if "/" not in each[0]],
            recipes=[each for each in shown if each[0].startswith("how-to/")],
            providers=[each for each in shown if each[0].startswith("providers/")],
            records=[each for each in shown if each[0].startswith("adr/") and each[0] != "adr/readme"],
        )
