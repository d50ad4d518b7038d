"""The operation that checks the file of a flow before it is applied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from flowhook.errors import Fault, InvalidFlowError, NotFoundError
from flowhook.model import Change
from operations.flow_revisions import compare
from operations.flows import draw
from operations.operation import Parameters
from operations.text_diff import DiffLine

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


class FlowText(Parameters):
    """Parameters of `check_flow`."""

    document: Annotated[str, Field(min_length=1)]
    """The file: YAML, at most 256 KiB in UTF-8."""


@dataclass(frozen=True, slots=True)
class ListedProblem:
    """A problem of a file. `line`: from 1; 0: it concerns the whole file. `key`: dotted path, or empty.

    `code`: a stable word for programs.
    """

    line: int
    key: str
    message: str
    code: str


@dataclass(frozen=True, slots=True)
class CheckedFlow:
    """What applying a file would do; or, if there are `problems`, why it can't be applied.

    `flow_id` and `change` are null, and the rest is empty, if there are problems. `revision`: the present one, 0 if the
    flow is new. `diff`: from the present file to this one. `picture`: SVG, with the classes of `diagram.css`.
    """

    problems: tuple[ListedProblem, ...]
    flow_id: str | None
    change: Change | None
    revision: int
    warnings: tuple[ListedProblem, ...]
    diff: tuple[DiffLine, ...]
    picture: str


async def check_flow(client: AsyncClient, parameters: FlowText) -> CheckedFlow:
    """Check the file of a flow: its problems by line or, if there is none, what applying it would change."""
    try:
        [applied] = await client.flows.apply((parameters.document.encode(),), dry_run=True)
    except InvalidFlowError as error:
        return CheckedFlow(problems_of(error.faults), None, None, 0, (), (), "")
    flow = applied.flow
    present, revision = "", 0
    if applied.change is not Change.CREATED:
        try:
            stored = await client.flows.get(flow.id)
            present, revision = stored.document.decode("utf-8", "replace"), stored.revision
        except NotFoundError:
            pass  # it was deleted meanwhile
    changes = await compare(present, parameters.document) if revision else ()
    return CheckedFlow(
        (), flow.id, applied.change, revision, problems_of(applied.located_warnings), changes, await draw(flow)
    )


def problems_of(faults: Iterable[Fault]) -> tuple[ListedProblem, ...]:
    """Return the problems, or the warnings, of the router."""
    return tuple(ListedProblem(fault.line, fault.key, fault.cause, fault.code) for fault in faults)
