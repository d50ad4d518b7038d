"""`/incidents` and `/incidents/ID`: destinations of calls that are or were down."""

from __future__ import annotations

from admin.console.page import ConsolePage, ListPage
from operations.table import GET_INCIDENT, LIST_INCIDENTS


class IncidentsPage(ListPage):
    """`/incidents`: the open incidents, then those that are over."""

    operation, template = LIST_INCIDENTS, "incidents.html"


class IncidentDetailPage(ConsolePage):
    """`/incidents/ID`: one incident and its history."""

    async def show(self, *values: str) -> None:
        self.finish_page("incident.html", incident=await self.run(GET_INCIDENT, {"incident_id": values[0]}, {}))
