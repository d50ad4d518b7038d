"""`/requests`: all requests that arrived, and what became of them."""

from __future__ import annotations

from urllib.parse import urlencode

from admin.console.page import FilterForm, Page
from flowhook.model.rejections import RequestOutcome
from operations.table import LIST_REQUESTS


class RequestsPage(Page):
    """`/requests`: all requests, newest first."""

    filter_form = FilterForm("requests_form.html", "Requests", LIST_REQUESTS, values={"outcomes": list(RequestOutcome)})

    async def show(self, *_values: str) -> None:
        query = {name: values for name, values in self.query().items() if values != [""]}  # a form sends all fields
        parameters = LIST_REQUESTS.read_query({}, query)
        page = await self.perform(LIST_REQUESTS, parameters)
        given = parameters.model_dump(include={"flow", "outcome"}, exclude_defaults=True)
        self.finish_page(
            "requests.html",
            page=page,
            filters=parameters,
            outcomes=list(RequestOutcome),
            first=not parameters.page_token,
            newest=urlencode(given),
            older=urlencode({**given, "page_token": page.next_page_token}),
        )
