"""`/rejections` and `/rejections/ID`."""

from __future__ import annotations

from urllib.parse import urlencode

from admin.console.page import Page
from admin.operations.table import GET_REJECTION, LIST_REJECTIONS


class RejectionsPage(Page):
    """`/rejections`: refused requests, newest first."""

    section = "rejections"

    async def show(self, *_values: str) -> None:
        """Respond with the list."""
        parameters = LIST_REJECTIONS.read_query({}, self.query())
        async with self.router() as client:
            page = await LIST_REJECTIONS.run(client, parameters)
        older = urlencode({"flow": parameters.flow, "page_token": page.next_page_token})
        self.finish_page(
            "rejections.html", page=page, flow=parameters.flow, first=not parameters.page_token, older=older
        )


class RejectionPage(Page):
    """`/rejections/ID`: a refused request."""

    section = "rejections"

    async def show(self, *values: str) -> None:
        """Respond with the request."""
        detail = await self.run(GET_REJECTION, {"rejection_id": values[0]})
        self.finish_page("rejection.html", detail=detail, rejection=detail.rejection)
