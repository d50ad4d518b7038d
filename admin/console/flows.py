"""`/flows`."""

from __future__ import annotations

from admin.console.page import Page
from admin.operations.table import LIST_FLOWS


class FlowsPage(Page):
    """`/flows`: all flows."""

    section = "flows"

    async def show(self, *_values: str) -> None:
        """Respond with the list."""
        self.finish_page("flows.html", page=await self.run(LIST_FLOWS, {}))
