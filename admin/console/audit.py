"""`/audit`: who changed what, when and why."""

from __future__ import annotations

from urllib.parse import urlencode

from admin.console.form_errors import FilterForm
from admin.console.page import Page
from admin.operations.table import LIST_AUDIT


class AuditPage(Page):
    """`/audit`: the entries of the audit log, newest first."""

    section = "audit"
    filter_form = FilterForm("audit_form.html", "Audit log", LIST_AUDIT)

    async def show(self, *_values: str) -> None:
        """Respond with the list."""
        parameters = LIST_AUDIT.read_query({}, self.query())
        async with self.router() as client:
            page = await LIST_AUDIT.perform(client, parameters, self.context.tools)
        conditions = {name: getattr(parameters, name) for name in ("actor", "action", "target")}
        given = {name: value for name, value in conditions.items() if value}
        self.finish_page(
            "audit.html",
            page=page,
            filters=parameters,
            query=urlencode(given),
            first=not parameters.page_token,
            older=urlencode({**given, "page_token": page.next_page_token}),
        )
