"""Handles the forms of the console: each is sent to the path of an operation of the API, without `/api`."""

from __future__ import annotations

import http
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from admin.base_handler import AdminContext
from admin.console.page import Page
from admin.operations import job_table, table
from admin.operations.operation import Operation


def _flow(result: Any) -> str:
    return f"/flows/{quote(result.id, safe='')}"


def _flows(_result: Any) -> str:
    return "/flows"


def _execution(result: Any) -> str:
    return f"/executions/{quote(result.id, safe='')}"


def _job(result: Any) -> str:
    return f"/jobs/{quote(result.id, safe='')}"


def _secrets(_result: Any) -> str:
    return "/secrets"


ACTIONS: Final[tuple[tuple[Operation[Any], Callable[[Any], str]], ...]] = (
    (table.PAUSE_FLOW, _flow),
    (table.RESUME_FLOW, _flow),
    (table.DELETE_FLOW, _flows),
    (table.CANCEL_EXECUTION, _execution),
    (table.SUSPEND_EXECUTION, _execution),
    (table.RESUME_EXECUTION, _execution),
    (table.RESOLVE_EXECUTION, _execution),
    (job_table.PAUSE_JOB, _job),
    (job_table.RESUME_JOB, _job),
    (job_table.ABORT_JOB, _job),
    (table.SET_SECRET, _secrets),
    (table.DELETE_SECRET, _secrets),
)
"""Operations of buttons, and the page to show after each, given the result."""


class ActionHandler(Page):
    """Performs the operation of a form, and redirects."""

    SUPPORTED_METHODS = ("POST",)

    def initialize(  # type: ignore[override]
        self, context: AdminContext, operation: Operation[Any], then: Callable[[Any], str]
    ) -> None:
        """Store the operation, and what returns the path of the page that follows it."""
        super().initialize(context)
        self._operation = operation
        self._then = then

    async def submit(self, *values: str) -> None:
        """Perform it."""
        path = dict(zip(self._operation.path_parameters, values, strict=True))
        result = await self.run(self._operation, path, self.checked_form())
        self.redirect(self._then(result), status=http.HTTPStatus.SEE_OTHER)
