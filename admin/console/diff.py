"""`/executions/ID/diff`: two executions side by side, and where they diverge."""

from __future__ import annotations

from collections.abc import Mapping

from admin.console.page import Page
from flowhook.errors import FlowhookError
from flowhook.model import Execution, Status
from operations.table import DIFF_EXECUTIONS, GET_EXECUTION, LIST_EXECUTIONS


class DiffPage(Page):
    """`/executions/ID/diff?with=ID`: the difference; without `with`, a form that asks for the other execution."""

    section = "executions"
    error_fields: Mapping[str, str] = {"EXECUTION_NOT_FOUND": "with"}

    async def show(self, *values: str) -> None:
        """Respond with the difference, or with the form alone."""
        path = {"execution_id": values[0]}
        query = self.query()
        other = query.get("with", [""])[0].strip()
        problem = None
        if other:
            try:
                found = await self.run(DIFF_EXECUTIONS, path, {**query, "with": [other]})
            except FlowhookError as error:
                problem = self.form_error(error)
            else:
                self.finish_page("diff.html", execution=found.first, other=found.second, diff=found.diff)
                return
        execution = await self.run(GET_EXECUTION, path, {})
        previous = await self._earlier(execution)
        completed = await self._earlier(execution, str(Status.COMPLETED))
        suggested = other or execution.replay_of or execution.replayed_by
        self.finish_page(
            "diff.html",
            execution=execution,
            other=None,
            suggested=suggested,
            previous=previous,
            completed=completed,
            diff=None,
            error=problem,
            errors=self.invalid_fields(problem),
        )

    async def _earlier(self, execution: Execution, *statuses: str) -> Execution | None:
        """Return the last execution of the same flow that was received before this one; None: none is stored."""
        conditions = {"flow": [execution.flow_id], "until": [execution.received_at.isoformat()], "page_size": ["1"]}
        page = await self.run(LIST_EXECUTIONS, {}, {**conditions, "status": list(statuses)})
        return page.executions[0] if page.executions else None
