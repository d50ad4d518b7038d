"""`/flows`: all flows with their numbers, and what to do first where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from admin.console.form_errors import FilterForm
from admin.console.live import LiveStream, read_live
from admin.console.page import Page
from flowhook.client import AsyncClient
from flowhook.errors import InvalidError, NotFoundError
from flowhook.model.flows import FlowCondition
from operations.flows import FlowList, FlowPage, ListedFlow
from operations.table import LIST_FLOWS
from operations.tools import Tools

ROWS: Final = 100  # flows on a page at most, live or not
LIVE_SECONDS: Final = 2.0  # time between two looks at the list of flows
MAX_LOOKED_AT: Final = 5  # flows that are looked at for one that needs no signature


def read_filters(query: Mapping[str, Sequence[str]]) -> FlowList:
    """Return the conditions that the parameters of a page's URL name.

    Raises:
        InvalidError: there is no such parameter, or no such value.
    """
    if (query.get("page_size") or [""])[0]:
        raise InvalidError(f"a page has {ROWS} rows: write no page_size", reason="PARAMETER_INVALID")
    return LIST_FLOWS.read_query({}, {**query, "page_size": [str(ROWS)]})


def filter_query(filters: FlowList, **others: str) -> str:
    """Return the conditions as parameters of a URL."""
    pairs = {"name": filters.name, "state": filters.state.value if filters.state else "", **others}
    return urlencode({name: value for name, value in pairs.items() if value})


class FlowsPage(Page):
    """`/flows`: flows by ID, with conditions in the URL; live on the first page."""

    section = "flows"
    filter_form = FilterForm("flows_form.html", "Flows", LIST_FLOWS, ("flows.css",), {"states": list(FlowCondition)})

    async def show(self, *_values: str) -> None:
        """Respond with the list."""
        query = self.query()
        live = read_live(query)
        filters = read_filters(query)
        first = not filters.page_token
        async with self.router() as client:
            page = await LIST_FLOWS.perform(client, filters, self.context.tools)
            fresh = first and not filter_query(filters) and not any(flow.numbers.last_event_at for flow in page.flows)
            guide = await _guide(client, page, self.context.tools) if fresh and page.flows else None
        self.finish_page(
            "flows.html",
            page=page,
            filters=filters,
            states=list(FlowCondition),
            first=first,
            live=first and live and bool(page.flows),
            guide=guide,
            query=filter_query(filters),
            next_query=filter_query(filters, page_token=page.next_page_token),
            switched=filter_query(filters, live="off" if live else "on"),
        )


class FlowStream(LiveStream):
    """`/stream/flows`."""

    section = "flows"
    template = "flow_rows.html"
    interval = LIVE_SECONDS

    def conditions(self) -> FlowList:
        """Return the conditions of the list."""
        return read_filters(self.query())

    async def load(self, client: AsyncClient, conditions: FlowList) -> dict[str, Any]:
        """Return the first page."""
        return {"page": await LIST_FLOWS.perform(client, conditions, self.context.tools)}


async def _guide(client: AsyncClient, page: FlowPage, tools: Tools) -> dict[str, str]:
    """Return how to send the first webhook: the flow that it is for, and the URL of the edges, so far as known.

    `unsigned` is a flow that accepts requests without a signature, `signed` one that does not; empty: none is known.
    """
    webhooks = [flow for flow in page.flows if flow.has_webhook]
    looked_at = [flow for flow in webhooks if not any(secret.verifies for secret in flow.numbers.secrets)]
    unsigned = [flow.id for flow in looked_at[:MAX_LOOKED_AT] if await _is_unsigned(client, flow)]
    return {
        "unsigned": unsigned[0] if unsigned else "",
        "signed": webhooks[0].id if webhooks else "",
        "url": await tools.edges.url(client),
    }


async def _is_unsigned(client: AsyncClient, flow: ListedFlow) -> bool:
    try:
        definition = orjson.loads((await client.flows.get(flow.id)).definition)
    except NotFoundError:  # deleted meanwhile
        return False
    webhook = definition.get("webhook") or {}
    return webhook.get("auth") == "none" and "POST" in webhook.get("methods", ["POST"])
