"""`/apply`: a form for the file of a flow, and what becomes of it."""

from __future__ import annotations

import http
from typing import Final
from urllib.parse import quote

from admin.console.page import Page
from admin.operations.table import APPLY_FLOW, GET_FLOW
from flowhook.errors import Fault, InvalidFlowError

EXAMPLE: Final = """\
document:
  dsl: 1.0.3
  namespace: default
  name: my-flow
  version: 1.0.0
webhook:
  auth: none
do:
  - greet:
      set:
        greeting: '${ "Hello, \\(.body.name)!" }'
"""
"""What the form contains at first, for those who write their first flow."""


class ApplyPage(Page):
    """`/apply`: the form, with the file of the flow that the URL names, or with an example."""

    section = "flows"

    async def show(self, *_values: str) -> None:
        """Respond with the form."""
        flow_id = self.query().get("flow", [""])[0]
        document = EXAMPLE
        if flow_id:
            async with self.router() as client:
                document = (await GET_FLOW.run(client, GET_FLOW.read({"flow_id": flow_id}, {}))).document
        self.show_form(document)

    def show_form(self, document: str, faults: list[Fault] | None = None) -> None:
        """Respond with the form, with a text and what is wrong with it."""
        self.finish_page("apply.html", document=document, faults=faults or [])


class ApplyHandler(ApplyPage):
    """Applies the text of the form; shows it again, with all faults by line, if it is not valid."""

    SUPPORTED_METHODS = ("POST",)

    async def submit(self, *_values: str) -> None:
        """Apply it, and redirect to the flow."""
        fields = self.checked_form()
        try:
            applied = await self.run(APPLY_FLOW, {}, fields)
        except InvalidFlowError as error:
            self.set_status(http.HTTPStatus.BAD_REQUEST)
            self.show_form(fields["document"][0], error.faults)
        else:
            self.redirect(f"/flows/{quote(applied.flow.id, safe='')}", status=http.HTTPStatus.SEE_OTHER)
