"""`/flows/ID` and the pages below it."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from admin.console.page import Page
from flowhook.errors import FlowhookError
from operations.table import (
    DIFF_REVISIONS,
    GET_FLOW,
    GET_FLOW_PICTURE,
    GET_FLOW_SETUP,
    GET_FLOW_STATISTICS,
    LIST_REJECTIONS,
    LIST_REVISIONS,
)


class FlowPage(Page):
    """`/flows/ID`: a flow's numbers, picture, URLs, set-up of senders, secrets, limits and file; or an old revision."""

    section = "flows"

    async def show(self, *values: str) -> None:
        """Respond with the flow; with `revision`, with picture and file of that revision only."""
        path = {"flow_id": values[0]}
        detail = await self.run(GET_FLOW, path)
        picture = await self.run(GET_FLOW_PICTURE, path)
        latest = not self.query().get("revision", [""])[0].strip("0")
        setup = await self.run(GET_FLOW_SETUP, path) if latest else None
        numbers = await self.run(GET_FLOW_STATISTICS, path, {}) if latest else None
        rejected = (
            (await self.run(LIST_REJECTIONS, {}, {"flow": [values[0]], "page_size": ["1"]})).counts if latest else ()
        )
        self.finish_page(
            "flow.html",
            flow=detail,
            document=detail.document.decode("utf-8", "replace"),
            picture=Markup(picture.svg),  # noqa: S704 - operations.diagram escapes all text
            setup=setup,
            numbers=numbers,
            rejected=sorted(rejected, key=lambda each: each.last_at),
        )


class RevisionsPage(Page):
    """`/flows/ID/revisions`: the revisions of a flow, and what changed between two of them."""

    section = "flows"
    error_fields: Mapping[str, str] = {"FLOW_REVISION_NOT_FOUND": ""}

    async def show(self, *values: str) -> None:
        """Respond with both; `old` and `new` name the revisions that are compared."""
        path, query = {"flow_id": values[0]}, self.query()
        pair: dict[str, list[str]] = {name: query.pop(name) for name in ("old", "new") if name in query}
        page = await self.run(LIST_REVISIONS, path, query)
        difference, problem = None, None
        try:
            difference = await self.run(DIFF_REVISIONS, path, pair)
        except FlowhookError as error:
            problem = self.form_error(error)
        old, new = (
            pair.get(name, [""])[0] if difference is None else getattr(difference, name) for name in ("old", "new")
        )
        self.finish_page(
            "flow_revisions.html",
            flow_id=values[0],
            page=page,
            diff=difference,
            old=old,
            new=new,
            error=problem,
            errors=self.invalid_fields(problem),
        )
