"""Handles the forms of the console: each is sent to the path of an operation of the API, without `/api`."""

from __future__ import annotations

import http
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from admin.base_handler import AdminContext
from admin.console.page import Page
from operations import table
from operations.operation import Operation

Then = Callable[[Any], str]


def _flow(result: Any) -> str:
    return f"/flows/{quote(result.id, safe='')}"


def _flows(_result: Any) -> str:
    return "/flows"


def _execution(result: Any) -> str:
    return f"/executions/{quote(result.id, safe='')}"


def _executions(_result: Any) -> str:
    return "/executions"


def _deleted(result: Any) -> str:
    """Return what was deleted or erased, and what may hold the same data."""
    done = "deleted" if result.erased_at is None else "erased"
    linked = [each.id for each in (*result.links.causes, *result.links.caused) if each.flow_id]
    rest = f" Linked executions may hold the same data: {', '.join(linked)}." if linked else ""
    return f"Executions {done}: {', '.join(result.execution_ids)}.{rest}"


def _job(result: Any) -> str:
    return f"/jobs/{quote(result.id, safe='')}"


def _secrets(_result: Any) -> str:
    return "/secrets"


def _cluster(_result: Any) -> str:
    return "/cluster"


def _nothing(_result: Any) -> str:
    return ""


# operations of buttons; given the result of one, the page to show after it, and a notice there, if it needs one
ACTIONS: Final[tuple[tuple[Operation[Any], Then, Then], ...]] = (
    (table.PAUSE_FLOW, _flow, _nothing),
    (table.RESUME_FLOW, _flow, _nothing),
    (table.DELETE_FLOW, _flows, lambda result: f"The flow {result.id} was deleted."),
    (table.CANCEL_EXECUTION, _execution, _nothing),
    (table.SUSPEND_EXECUTION, _execution, _nothing),
    (table.RESUME_EXECUTION, _execution, _nothing),
    (table.RETRY_EXECUTION_NOW, _execution, _nothing),
    (table.RESOLVE_EXECUTION, _execution, _nothing),
    (table.DELETE_EXECUTION, _executions, _deleted),
    (table.PAUSE_JOB, _job, _nothing),
    (table.RESUME_JOB, _job, _nothing),
    (table.ABORT_JOB, _job, _nothing),
    (table.DISMISS_PROCESS, _cluster, lambda result: f"The process {result.name} is not shown any more."),
    (table.HAND_OVER, _cluster, lambda result: f"{result.owner} hands over to {result.successor}."),
    (table.DELETE_SECRET, _secrets, lambda result: f"The secret {result.name} was deleted."),
)


class ActionHandler(Page):
    """Performs the operation of a form, and redirects."""

    SUPPORTED_METHODS = ("POST",)

    def initialize(  # type: ignore[override]
        self, context: AdminContext, operation: Operation[Any], then: Then, notice: Then
    ) -> None:
        """Store the operation, and what returns the path of the page that follows it, and its notice."""
        super().initialize(context)
        self._operation = operation
        self._then = then
        self._notice = notice
        self.section = operation.path.split("/")[1]

    async def submit(self, *values: str) -> None:
        """Perform it."""
        path = dict(zip(self._operation.path_parameters, values, strict=True))
        result = await self.run(self._operation, path, self.checked_form())
        if self.session is not None:
            self.session.notice = self._notice(result)
        self.redirect(self._then(result), status=http.HTTPStatus.SEE_OTHER)
