"""`/faults`."""

from __future__ import annotations

from urllib.parse import urlencode

from admin.console.form_errors import FilterForm
from admin.console.page import Page
from operations.execution_list import to_pairs
from operations.faults import MAX_LOOKED_AT, group_filter
from operations.table import LIST_FAULTS


class FaultsPage(Page):
    """`/faults`: failed executions that were neither replayed nor resolved, in groups."""

    section = "faults"
    filter_form = FilterForm("faults_form.html", "Faults", LIST_FAULTS)

    async def show(self, *_values: str) -> None:
        """Respond with the groups."""
        parameters = LIST_FAULTS.read_query({}, self.query())
        async with self.router() as client:
            faults = await LIST_FAULTS.perform(client, parameters, self.context.tools)
        groups = [(group, urlencode(to_pairs(group_filter(group)))) for group in faults.groups]
        self.finish_page("faults.html", faults=faults, groups=groups, filters=parameters, most=MAX_LOOKED_AT)
