"""`/apply`: a form for the file of a flow, which checks or applies it."""

from __future__ import annotations

import asyncio
import http
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from markupsafe import Markup

from admin.console.documentation import documentation
from admin.console.page import ConsolePage
from flowhook.errors import FlowhookError, InvalidError, InvalidFlowError, NotFoundError
from flowhook.model import Flow
from operations.flows import CheckedFlow, ListedProblem, problems_of
from operations.operation import Operation, ParameterError
from operations.table import APPLY_FLOW, CHECK_FLOW, GET_FLOW

_UNSET: Final = re.compile(r"^secret (.+) is not set yet")  # beginning of the router's warning about a secret
# what the form contains at first, for those who write their first flow
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
MAX_LINES: Final = 1000  # lines up to which a text is shown whole; of a longer one, those around problems
AROUND: Final = 5  # lines that are shown before and after one with problems, in a text that is not shown whole


class ApplyPage(ConsolePage):
    """`/apply`: the form, with the file of the flow and of the revision that the URL names, or with an example."""

    async def show(self, *_values: str) -> None:
        """Show the editor with a flow's document (`flow`, `revision`), a named example, or the default one."""
        query = self.query()
        if flow_id := query.pop("flow", [""])[0]:
            detail = await self.run(GET_FLOW, {"flow_id": flow_id}, query)
            self.show_form(detail.document.decode("utf-8", "replace"), shown=detail)
        elif example := query.pop("example", [""])[0]:
            examples = (await asyncio.to_thread(documentation)).examples
            if example not in examples or query:
                raise NotFoundError(f"there is no example {example[:100]}", reason="EXAMPLE_NOT_FOUND")
            self.show_form(examples[example])
        elif query:
            text = "there are the parameters flow and, with it, revision; and example"
            raise InvalidError(text, reason="PARAMETER_INVALID")
        else:
            await asyncio.to_thread(documentation)
            self.show_form(EXAMPLE)

    def show_form(
        self,
        document: str,
        problems: tuple[ListedProblem, ...] = (),
        checked: CheckedFlow | None = None,
        *,
        reason: str = "",
        shown: Flow | None = None,
        error: FlowhookError | None = None,
    ) -> None:
        """Respond with the form, with a text and what is wrong with it or, if it was checked, what it would change.

        `shown`: the revision whose file the text is. `error`: about other fields than the text.
        """
        shown_problems = (*problems, *(checked.warnings if checked else ()))
        self.finish_page(
            "apply.html",
            document=document,
            shown=shown,
            reason=reason,
            error=error,
            problems=problems,
            lines=list(numbered(document, shown_problems)) if shown_problems else [],
            checked=checked,
            warnings=[(each, "".join(_UNSET.findall(each.message))) for each in checked.warnings] if checked else [],
            examples=sorted(documentation().examples) if shown is None else [],
            picture=Markup(checked.picture if checked else ""),  # noqa: S704 - operations.diagram escapes all text
        )


class ApplyHandler(ApplyPage):
    """Applies the text of the form; shows it again, with all problems below their lines, if it is not valid."""

    SUPPORTED_METHODS = ("POST",)
    operation: Operation[Any] = APPLY_FLOW

    async def submit(self, *_values: str) -> None:
        fields = self.checked_form()
        document, reason = (fields.get(name, [""])[0] for name in ("document", "reason"))
        try:
            result = await self.run(self.operation, {}, fields)
        except ParameterError as error:
            self.show_form(document, reason=reason, error=self.form_error(error))
        except InvalidFlowError as error:
            self.set_status(http.HTTPStatus.BAD_REQUEST)
            self.show_form(document, problems_of(error.faults), reason=reason)
        else:
            self.show_result(document, reason, result)

    def show_result(self, _document: str, _reason: str, result: Any) -> None:
        self.see_other(f"/flows/{quote(result.flow.id, safe='')}")


class CheckHandler(ApplyHandler):
    """Checks the text of the form, and shows it again with the result."""

    operation = CHECK_FLOW

    def show_result(self, document: str, reason: str, result: CheckedFlow) -> None:
        self.show_form(document, result.problems, None if result.problems else result, reason=reason)


@dataclass(frozen=True, slots=True)
class NumberedLine:
    """A line of a text. `skipped`: lines before it that are not shown."""

    number: int
    text: str
    problems: tuple[ListedProblem, ...]
    skipped: int


def numbered(text: str, problems: Sequence[ListedProblem]) -> Iterator[NumberedLine]:
    lines = text.removesuffix("\n").split("\n")
    found: dict[int, list[ListedProblem]] = {}
    for problem in problems:
        if problem.line:
            found.setdefault(min(problem.line, len(lines)), []).append(problem)
    near = {number for line in found for number in range(line - AROUND, line + AROUND + 1)}
    shown = range(1, len(lines) + 1) if len(lines) <= MAX_LINES else sorted(near & {*range(1, len(lines) + 1)})
    last = 0
    for number in shown:
        yield NumberedLine(number, lines[number - 1], tuple(found.get(number, ())), number - last - 1)
        last = number
