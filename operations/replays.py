"""Operations on replays: starting one, and saying beforehand what it would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from flowhook.client import AsyncClient
from flowhook.model.replays import ReplayOptions, ReplayPreview
from operations.executions import ExecutionId, ExecutionView, view
from operations.operation import ParameterError, Parameters


class ReplayParameters(Parameters):
    """How an execution, or each of several, is replayed."""

    revision: Literal["recorded", "latest"] = "recorded"
    """Revision of the flow to run: the one that the execution ran, or the latest."""
    start: Literal["auto", "beginning", "failed_task", "task"] = "auto"
    """Task to begin with: the first one; the one that failed; or `task`, with the results of those before it.

    `auto`: the one that failed; the first one if the execution did not fail, if nothing would run anew, or with `body`.
    """
    task: Annotated[str, Field(max_length=4096)] = ""
    """With `start` `task`: the task, as the execution's list of tasks shows it. Its first run counts."""
    output: str | None = None
    """Output of `task` as JSON: the task is not performed, and the flow continues after it."""
    body: str | None = None
    """Body instead of the stored one, from the beginning only."""
    content_type: str | None = None
    """Media type of `body`; if it is absent, that of the stored request."""

    def options(self) -> ReplayOptions:
        """Return them as the client takes them.

        Raises:
            ParameterError: `start` and `task` do not go together.
        """
        if (self.start == "task") is not bool(self.task):
            text = "name a task together with start=task, and only then"
            raise ParameterError(f"task: {text}", {"task": text})
        return ReplayOptions(
            latest=self.revision == "latest",
            from_failed=self.start == "failed_task",
            from_task=self.task,
            output=_bytes(self.output),
            body=_bytes(self.body),
            content_type=self.content_type,
            auto=self.start == "auto",
        )


class ReplayChoice(ReplayParameters, ExecutionId):
    """Parameters of `preview_replay`."""


class Replay(ReplayChoice):
    """Parameters of `replay_execution`."""

    request_id: Annotated[str, Field(max_length=64, pattern=r"^[\x21-\x7e]*$")] = ""
    """Idempotency key: calls with the same one start one execution."""


@dataclass(frozen=True, slots=True)
class ReplayedTaskView:
    """A task of the execution, and its kind in the DSL; empty: the revision that would run has no such task."""

    task: str
    kind: str


@dataclass(frozen=True, slots=True)
class ReplayPreviewView:
    """What a replay would do.

    Tasks in `taken_over` are not performed. Tasks in `again` run again if the flow takes the same course; tasks that it
    did not reach may run as well.
    """

    flow_revision: int
    taken_over: tuple[ReplayedTaskView, ...]
    again: tuple[ReplayedTaskView, ...]
    keeps_idempotency_keys: bool
    latest_revision: int
    """Of the flow; 0: the flow was deleted."""


async def replay_execution(client: AsyncClient, parameters: Replay) -> ExecutionView:
    """Start a new execution from the stored request of one that ended, and return it."""
    started = await client.executions.replay(
        parameters.execution_id, parameters.options(), request_id=parameters.request_id
    )
    return view(started)


async def preview_replay(client: AsyncClient, parameters: ReplayChoice) -> ReplayPreviewView:
    """Return what a replay would do, and start nothing."""
    return preview_view(await client.executions.preview_replay(parameters.execution_id, parameters.options()))


def preview_view(preview: ReplayPreview) -> ReplayPreviewView:
    """Return what is shown of a preview."""
    return ReplayPreviewView(
        preview.flow_revision,
        tuple(ReplayedTaskView(*each) for each in preview.taken_over),
        tuple(ReplayedTaskView(*each) for each in preview.again),
        preview.keeps_idempotency_keys,
        preview.latest_revision,
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogatepass")
