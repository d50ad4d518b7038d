"""Operations on replays: starting one, and saying beforehand what it would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from flowhook.model.executions import Execution
from flowhook.model.replays import ReplayOptions, ReplayPreview
from operations.executions import ExecutionId
from operations.operation import ParameterError, Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


class ReplayParameters(Parameters):
    """How an execution, or each of several, is replayed."""

    revision: Literal["pinned", "latest"] = "pinned"
    """Revision of the flow to run: the one that the execution ran, or the latest."""
    start: Literal["auto", "beginning", "failed_task", "task"] = "auto"
    """Where to begin: at the first task; at the one that failed; or at `task`, with the results of those before it.

    `auto`: at `task`, if one is named; else at the one that failed, and at the first one if the execution did not fail,
    if nothing would run anew, or with `body`.
    """
    task: Annotated[str, Field(max_length=4096)] = ""
    """Task to begin with, as the execution's list of tasks names it. Its first run counts."""
    output: bytes | None = None
    """Output of `task` as JSON: the task is not performed, and the flow continues after it."""
    body: bytes | None = None
    """Body instead of the stored one, from the beginning only."""
    content_type: str | None = None
    """Media type of `body`; absent: that of the stored request."""

    def options(self) -> ReplayOptions:
        from_task = bool(self.task) if self.start == "auto" else self.start == "task"
        if from_task is not bool(self.task):
            raise _refused("task", "name a task together with start=task, and only then")
        if self.output is not None and not from_task:
            raise _refused("output", "it needs a task that has it")
        if self.body is not None and (from_task or self.start == "failed_task"):
            raise _refused("body", "it replaces what all tasks have seen, and needs a replay from the beginning")
        if self.content_type is not None and self.body is None:
            raise _refused("content_type", "it is that of a body, and none is given")
        return ReplayOptions(
            latest=self.revision == "latest",
            from_failed=self.start == "failed_task",
            from_task=self.task,
            output=_bytes(self.output),
            body=_bytes(self.body),
            content_type=self.content_type,
            auto=self.start == "auto" and not from_task,
        )


def _bytes(content: bytes | str | None) -> bytes | None:
    """Return content as bytes: that of a draft, which is shown again, is text."""
    return content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content


def _refused(name: str, text: str) -> ParameterError:
    return ParameterError(f"{name}: {text}", {name: text})


class ReplayChoice(ReplayParameters, ExecutionId):
    """Parameters of `preview_replay`."""


class Replay(ReplayChoice):
    """Parameters of `replay_execution`."""

    request_id: Annotated[str, Field(max_length=64, pattern=r"^[\x21-\x7e]*$")] = ""
    """Idempotency key: calls with the same one start one execution."""
    unless_replayed: bool = False
    """Refuse an execution that was replayed successfully or is being replayed, or that is resolved."""


async def replay_execution(client: AsyncClient, parameters: Replay) -> Execution:
    """Start a new execution from the stored request of one that ended."""
    return await client.executions.replay(
        parameters.execution_id,
        parameters.options(),
        request_id=parameters.request_id,
        unless_replayed=parameters.unless_replayed,
    )


async def preview_replay(client: AsyncClient, parameters: ReplayChoice) -> ReplayPreview:
    """Say which tasks a replay would take over and which would run again; start nothing."""
    return await client.executions.preview_replay(parameters.execution_id, parameters.options())
