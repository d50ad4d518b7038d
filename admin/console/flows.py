"""`/flows` and `/flows/ID`."""

from __future__ import annotations

from admin.console.page import Page
from admin.operations.table import GET_FLOW, LIST_FLOWS


class FlowsPage(Page):
    """`/flows`: all flows."""

    section = "flows"

    async def show(self, *_values: str) -> None:
        """Respond with the list."""
        self.finish_page("flows.html", page=await self.run(LIST_FLOWS, {}))


class FlowPage(Page):
    """`/flows/ID`: a flow, its state and its file."""

    section = "flows"

    async def show(self, *values: str) -> None:
        """Respond with the flow."""
        detail = await self.run(GET_FLOW, {"flow_id": values[0]})
        self.finish_page("flow.html", flow=detail.flow, document=detail.document)
