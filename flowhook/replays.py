"""Domain types of replays: what one took over, and what one would do."""

from __future__ import annotations

from typing import NamedTuple


class ReplayOrigin(NamedTuple):
    """What a replay took over from the execution that it replays; see `flowhook.v1.ReplayOrigin`.

    Without `from_failed_task` and `task` it began at the beginning.

    Attributes:
        from_failed_task: whether it began at the task that had failed.
        task: task that it began at, as in `TaskRun.task`; empty: none was named.
        output_given: whether `task` was not performed, but given an output.
        edited_from: ID of the execution whose request the event is an edited copy of; empty: it is as received.
        attachment_owner: ID that handles of attachments begin with; empty: the scope of idempotency keys.
    """

    from_failed_task: bool = False
    task: str = ""
    output_given: bool = False
    edited_from: str = ""
    attachment_owner: str = ""


class ReplayedTask(NamedTuple):
    """A task of an execution that is replayed.

    Attributes:
        task: as in `TaskRun.task`.
        kind: kind of task in the DSL, such as `call`; empty: the revision that would run has no such task.
    """

    task: str
    kind: str


class ReplayPreview(NamedTuple):
    """What a replay would do.

    Attributes:
        flow_revision: revision that it would run.
        taken_over: tasks whose results are taken over: these are not performed.
        again: tasks of the original that run again if the flow takes the same course.
        keeps_idempotency_keys: whether calls are made with the idempotency keys of the original.
    """

    flow_revision: int
    taken_over: tuple[ReplayedTask, ...]
    again: tuple[ReplayedTask, ...]
    keeps_idempotency_keys: bool
