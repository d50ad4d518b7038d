"""`/docs` and `/docs/NAME`: the documentation, for everybody: those who can't log in need it most."""

from __future__ import annotations

import asyncio
import posixpath

from admin.console.documentation import IMAGE_TYPES, documentation
from admin.console.page import Page
from admin.signed_in_handler import COOKIE
from flowhook.errors import NotFoundError


class PublicPage(Page):
    """Base class of pages that need no session; one that there is shows the menu."""

    def authenticate(self) -> None:
        """Ask for nothing."""
        self.session = self.context.sessions.find(self.get_cookie(COOKIE, "") or "", self.context.clock(), use=False)

    def authorize(self) -> None:
        """Permit everybody."""


class DocumentationPage(PublicPage):
    """A page of the documentation, or a picture of one."""

    section = "docs"

    async def show(self, *values: str) -> None:
        """Respond with it."""
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

    section = "docs"

    async def show(self, *_values: str) -> None:
        """Respond with it."""
        pages = await asyncio.to_thread(documentation)
        shown = [(name, pages.title(name)) for name in pages.names]
        self.finish_page(
            "documents.html",
            guides=[each for each in shown if "/" not in each[0]],
            records=[each for each in shown if each[0].startswith("adr/") and each[0] != "adr/readme"],
        )
