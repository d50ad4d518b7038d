"""`/executions/ID/progress`: the parts of the page of an unfinished execution that change."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from admin.console import trace_view
from admin.console.page import Page
from flowhook.model import Status
from operations.executions import ExecutionDetailView
from operations.table import GET_EXECUTION

SEEN: Final = "seen"  # parameter with the status that the page shows


class ExecutionProgress(Page):
    """Status and tasks of an execution; its page asks for them every 2 s until it has ended, or 10 s while it waits."""

    section = "executions"
    SUPPORTED_METHODS = ("GET",)

    async def show(self, *values: str) -> None:
        """Respond with both; reload the whole page once its buttons, error or output have changed."""
        seen = self.query().get(SEEN, [""])[0]
        detail: ExecutionDetailView = await self.run(GET_EXECUTION, {"execution_id": values[0]}, {})
        status = detail.status
        if status.ended or (status is Status.SUSPENDED) != (seen == Status.SUSPENDED):
            self.set_header("HX-Refresh", "true")
        self.finish_page(
            "execution_progress.html",
            execution=detail,
            path=f"/executions/{quote(detail.id, safe='')}",
            tasks=trace_view.shown_tasks(detail, None),
        )
