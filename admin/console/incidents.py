"""`/incidents` and `/incidents/ID`: destinations of calls that are or were down."""

from __future__ import annotations

from urllib.parse import urlencode

from admin.console.page import Page
from operations.table import GET_INCIDENT, LIST_INCIDENTS


class IncidentsPage(Page):
    """`/incidents`: the open incidents, then those that are over."""

    async def show(self, *_values: str) -> None:
        parameters = LIST_INCIDENTS.read_query({}, self.query())
        page = await self.perform(LIST_INCIDENTS, parameters)
        older = urlencode({"page_token": page.next_page_token})
        self.finish_page("incidents.html", page=page, first=not parameters.page_token, older=older)


class IncidentDetailPage(Page):
    """`/incidents/ID`: one incident and its history."""

    async def show(self, *values: str) -> None:
        self.finish_page("incident.html", incident=await self.run(GET_INCIDENT, {"incident_id": values[0]}, {}))
