"""Handles the forms of the console: each is sent to the path of an operation of the API, without `/api`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from admin.console.page import ConsolePage
from admin.handlers import AdminContext
from operations import table
from operations.operation import Operation

Notice = Callable[[Any], str]


def _deleted(result: Any) -> str:
    done = "deleted" if result.erased_at is None else "erased"
    linked = [each.id for each in (*result.links.causes, *result.links.caused) if each.flow_id]
    rest = f" Linked executions may hold the same data: {', '.join(linked)}." if linked else ""
    return f"Executions {done}: {', '.join(result.execution_ids)}.{rest}"


# operations of buttons; for one that leaves no page of its own, what the page of its section says then
ACTIONS: Final[tuple[tuple[Operation[Any], Notice | None], ...]] = (
    *((each, None) for each in (table.PAUSE_FLOW, table.RESUME_FLOW)),
    (table.DELETE_FLOW, lambda result: f"The flow {result.id} was deleted."),
    *((each, None) for each in (table.CANCEL_EXECUTION, table.SUSPEND_EXECUTION, table.RESUME_EXECUTION)),
    *((each, None) for each in (table.RETRY_EXECUTION_NOW, table.RESOLVE_EXECUTION)),
    (table.DELETE_EXECUTION, _deleted),
    *((each, None) for each in (table.PAUSE_JOB, table.RESUME_JOB, table.ABORT_JOB)),
    (table.PROBE_INCIDENT, None),
    (table.LET_INCIDENT_FAIL, lambda result: f"The calls of {result.executions} executions fail."),
    (table.DISMISS_PROCESS, lambda result: f"The process {result.name} is not shown any more."),
    (table.HAND_OVER, lambda result: f"{result.owner} hands over to {result.successor}."),
    (table.DELETE_SECRET, lambda result: f"The secret {result.name} was deleted."),
)


class ActionHandler(ConsolePage):
    """Performs the operation of a form, and redirects."""

    SUPPORTED_METHODS = ("POST",)

    def initialize(  # type: ignore[override]
        self, context: AdminContext, operation: Operation[Any], notice: Notice | None
    ) -> None:
        super().initialize(context)
        self._operation, self._notice = operation, notice

    async def submit(self, *values: str) -> None:
        path = dict(zip(self._operation.path_parameters, values, strict=True))
        result = await self.run(self._operation, path, self.checked_form())
        if self.session is not None and self._notice is not None:
            self.session.notice = self._notice(result)
        rest = "" if self._notice is not None else f"/{quote(result.id, safe='')}"
        self.see_other(f"/{self.section}{rest}")
