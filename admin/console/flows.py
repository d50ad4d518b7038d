"""`/flows`, with what to do first where there is none, `/flows/ID` and the pages below it; test events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from markupsafe import Markup

from admin.console.body_view import indented
from admin.console.live import LiveStream
from admin.console.page import ConsolePage, FilterForm, query_of, read_live, read_rows
from flowhook.client import AsyncClient
from flowhook.errors import FlowhookError, NotFoundError, UnauthenticatedError
from flowhook.model.flows import FlowCondition
from operations import table
from operations.flows import FlowPage, ListedFlow
from operations.operation import Operation
from operations.table import PREPARE_TEST_EVENT, SEND_TEST_EVENT, SIGN_TEST_EVENT
from operations.test_events import TestDraft

ROWS: Final = 100  # flows on a page at most, live or not
LIVE_SECONDS: Final = 2.0  # time between two looks at the list of flows
MAX_LOOKED_AT: Final = 5  # flows that are looked at for one that needs no signature


class FlowsPage(ConsolePage):
    """`/flows`: flows by ID, with conditions in the URL; live on the first page."""

    filter_form = FilterForm("flows_form.html", "Flows", table.LIST_FLOWS, {"states": list(FlowCondition)})

    async def show(self, *_values: str) -> None:
        """Show a page of flows; while none has had an event, with a guide to the first webhook."""
        query = self.query()
        live = read_live(query)
        filters = read_rows(table.LIST_FLOWS, query, ROWS)
        first = not filters.page_token
        page = await self.perform(table.LIST_FLOWS, filters)
        whole = first and not query_of(filters)
        guide = await first_webhook(self, page) if whole and page.flows else None
        self.finish_page(
            "flows.html",
            page=page,
            filters=filters,
            states=list(FlowCondition),
            first=first,
            live=first and live and bool(page.flows),
            guide=guide,
            query=query_of(filters),
            next_query=query_of(filters, page_token=page.next_page_token),
            switched=query_of(filters, live="off" if live else "on"),
        )


async def first_webhook(page: ConsolePage, listed: FlowPage) -> dict[str, str] | None:
    """Return how to send the first webhook: the flow that it is for, and the URL of the edges, so far as known.

    `unsigned` is a flow that accepts requests without a signature, `signed` one that does not; empty: none known. None:
    one of the flows has had an event.
    """
    if any(flow.numbers.last_event_at for flow in listed.flows):
        return None
    webhooks = [flow for flow in listed.flows if flow.has_webhook]
    looked_at = [flow for flow in webhooks if not any(secret.verifies for secret in flow.numbers.secrets)]
    async with page.router() as client:
        unsigned = [flow.id for flow in looked_at[:MAX_LOOKED_AT] if await _is_unsigned(client, flow)]
        url = await page.context.tools.edges.url(client)
    signed = webhooks[0].id if webhooks else ""
    return {"unsigned": unsigned[0] if unsigned else "", "signed": signed, "url": url}


class FlowStream(LiveStream):
    """`/stream/flows`."""

    operation, rows = table.LIST_FLOWS, ROWS
    template = "flow_rows.html"
    interval = LIVE_SECONDS


async def _is_unsigned(client: AsyncClient, flow: ListedFlow) -> bool:
    try:
        definition = orjson.loads((await client.flows.get(flow.id)).definition)
    except NotFoundError:  # deleted meanwhile
        return False
    webhook = definition.get("webhook") or {}
    return webhook.get("auth") == "none" and "POST" in webhook.get("methods", ["POST"])


class FlowDetailPage(ConsolePage):
    """`/flows/ID`: a flow's numbers, picture, URLs, set-up of senders, secrets, limits and file; or an old revision."""

    async def show(self, *values: str) -> None:
        """Show a flow; of an earlier revision its document and picture alone."""
        path = {"flow_id": values[0]}
        detail = await self.run(table.GET_FLOW, path)
        picture = await self.run(table.GET_FLOW_PICTURE, path)
        latest = not self.query().get("revision", [""])[0].strip("0")
        setup = await self.run(table.GET_FLOW_SETUP, path) if latest else None
        numbers = await self.run(table.GET_FLOW_STATISTICS, path, {}) if latest else None
        one = {"flow": [values[0]], "page_size": ["1"]}
        rejected = (await self.run(table.LIST_REJECTIONS, {}, one)).counts if latest else ()
        self.finish_page(
            "flow.html",
            flow=detail,
            document=detail.document.decode("utf-8", "replace"),
            picture=Markup(picture.svg),  # noqa: S704 - operations.diagram escapes all text
            setup=setup,
            numbers=numbers,
            rejected=sorted(rejected, key=lambda each: each.last_at),
        )


class RevisionsPage(ConsolePage):
    """`/flows/ID/revisions`: the revisions of a flow, and what changed between two of them."""

    error_fields: Mapping[str, str] = {"FLOW_REVISION_NOT_FOUND": ""}

    async def show(self, *values: str) -> None:
        """Show a page of revisions, and the difference between the two that `old` and `new` name."""
        path, query = {"flow_id": values[0]}, self.query()
        pair: dict[str, list[str]] = {name: query.pop(name) for name in ("old", "new") if name in query}
        page = await self.run(table.LIST_REVISIONS, path, query)
        difference, problem = None, None
        try:
            difference = await self.run(table.DIFF_REVISIONS, path, pair)
        except FlowhookError as error:
            problem = self.form_error(error)
        old, new = (
            pair.get(name, [""])[0] if difference is None else getattr(difference, name) for name in ("old", "new")
        )
        self.finish_page(
            "flow_revisions.html",
            flow_id=values[0],
            page=page,
            diff=difference,
            old=old,
            new=new,
            error=problem,
        )


# fields of the form that a page with a result shows again
FIELDS: Final = ("method", "content_type", "headers", "body", "new_id")


class TestEventPage(ConsolePage):
    """`/flows/ID/test`: the form, filled from a sample or from a stored execution, and what became of it."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST")
    operation: Operation[Any] = SEND_TEST_EVENT
    error_fields: Mapping[str, str] = {
        "EXECUTION_NOT_FOUND": "execution",
        "SAMPLE_NOT_FOUND": "sample",
        "HEADER_INVALID": "headers",
    }

    async def show(self, *values: str) -> None:
        path, query = {"flow_id": values[0]}, self.query()
        problem = None
        try:
            draft = await self.run(PREPARE_TEST_EVENT, path, query)
        except FlowhookError as error:
            problem = self.form_error(error)
            draft = await self.run(PREPARE_TEST_EVENT, path, {})
        execution, sample = (query.get(name, [""])[0] for name in ("execution", "sample"))
        self.finish_form(draft, problem=problem, execution=execution, sample=sample)

    async def submit(self, *values: str) -> None:
        """Send or sign what the form contains, and show it again with the result, or with the reason of a refusal."""
        fields = self.checked_form()
        path = {"flow_id": values[0]}
        result, problem = None, None
        try:
            result = await self.run(self.operation, path, fields)
        except UnauthenticatedError:
            raise
        except FlowhookError as error:
            problem = error
            self.set_status_of(error)
        draft = await self.run(PREPARE_TEST_EVENT, path, {})
        entered = {name: fields.get(name, [""])[0] for name in FIELDS}
        self.finish_form(draft, entered=entered, result=result, problem=problem)

    def finish_form(
        self,
        draft: TestDraft,
        *,
        entered: dict[str, str] | None = None,
        result: Any = None,
        problem: FlowhookError | None = None,
        execution: str = "",
        sample: str = "",
    ) -> None:
        """Render the form for a test event; with `result`, also the signed request and the edge's response."""
        sent = result if self.operation is SEND_TEST_EVENT else None
        signed = result if sent is None else sent.request
        response = None if sent is None else sent.response
        self.finish_page(
            "test_event.html",
            draft=draft,
            entered=entered or {name: getattr(draft, name, "true") for name in FIELDS},  # a new ID, unless one says so
            execution=execution,
            sample=sample,
            sent=sent,
            signed=signed,
            response=response,
            response_body="" if response is None else indented(response.body) or response.body,
            error=problem,
        )


class SignTestEventPage(TestEventPage):
    """`/flows/ID/test/sign`: the same form, with a shell command that sends the event."""

    operation = SIGN_TEST_EVENT
