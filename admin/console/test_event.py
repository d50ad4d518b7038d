"""`/flows/ID/test`: sends a test event to an edge, signed as the flow requires."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from admin.console.body_view import indented
from admin.console.page import ConsolePage
from flowhook.errors import FlowhookError, UnauthenticatedError
from operations.operation import Operation
from operations.table import PREPARE_TEST_EVENT, SEND_TEST_EVENT, SIGN_TEST_EVENT
from operations.test_events import TestDraft

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
