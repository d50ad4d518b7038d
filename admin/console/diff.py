"""`/executions/ID/diff`: two executions side by side, and where they diverge."""

from __future__ import annotations

from admin.console.page import Page
from admin.operations.table import DIFF_EXECUTIONS, GET_EXECUTION


class DiffPage(Page):
    """`/executions/ID/diff?with=ID`: the difference; without `with`, a form that asks for the other execution."""

    section = "executions"

    async def show(self, *values: str) -> None:
        """Respond with the difference, or with the form."""
        path = {"execution_id": values[0]}
        query = self.query()
        other = query.get("with", [""])[0].strip()
        if other:
            found = await self.run(DIFF_EXECUTIONS, path, {**query, "with": [other]})
            self.finish_page("diff.html", execution=found.first, other=found.second, diff=found.diff)
        else:
            execution = (await self.run(GET_EXECUTION, path, {})).execution
            suggested = execution.replay_of or execution.replayed_by
            self.finish_page("diff.html", execution=execution, other=None, suggested=suggested, diff=None)
