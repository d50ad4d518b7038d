"""`/requests`: all requests that arrived, and what became of them."""

from __future__ import annotations

from types import MappingProxyType

from admin.console.page import FilterForm, ListPage
from flowhook.model.rejections import RequestOutcome
from operations.table import LIST_REQUESTS


class RequestsPage(ListPage):
    """`/requests`: all requests, newest first."""

    operation, template, values = LIST_REQUESTS, "requests.html", MappingProxyType({"outcomes": list(RequestOutcome)})
    filter_form = FilterForm("requests_form.html", "Requests", LIST_REQUESTS, values=values)
