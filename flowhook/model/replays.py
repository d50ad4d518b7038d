"""Domain types of replays: how one is made, what it took over, and what it would do."""

from __future__ import annotations

from typing import Final, NamedTuple


class ReplayOptions(NamedTuple):
    """How executions are replayed; see `Client.executions.replay`.

    Attributes:
        latest: on the latest revision of the flow, rather than on that of the execution.
        from_failed: from the task that failed, rather than from the beginning.
        from_task: from the first run of this task, as in `TaskRun.task`; empty: not from a given task.
        output: raw output of `from_task` as JSON: the task is not performed; None: it is.
        body: body instead of the stored one, from the beginning only; None: the stored one.
        content_type: media type of `body`; None: that of the stored request.
        auto: from the task that failed if there is one that would run anew, and `body` is not given; else from the
            beginning.
    """

    latest: bool = False
    from_failed: bool = False
    from_task: str = ""
    output: bytes | None = None
    body: bytes | None = None
    content_type: str | None = None
    auto: bool = False

    def in_words(self) -> str:
        """Return what replays of several executions run, as the end of a sentence."""
        revision = "the latest revision" if self.latest else "the revision that each ran"
        start, resumes = "from the beginning", self.auto and self.body is None
        if self.from_failed or self.from_task:
            given = " (which is not performed: its output is the given one)" if self.output is not None else ""
            start = f"from {self.from_task or 'the task that failed'}{given}, with the results before it"
        elif resumes:
            start = "from the task that failed, with the results before it, or from the beginning if none did"
        taken = "the input as it was" if self.body is None else "the edited input"
        keys = "the idempotency keys that they had" if self.from_failed else "new idempotency keys"
        if resumes:
            keys = "the idempotency keys that they had, except from the beginning"
        return f"on {revision}, {start}, with {taken}; calls have {keys}"


AS_RECORDED: Final = ReplayOptions()
"""On the same revision with the same input, from the beginning."""

AUTO: Final = ReplayOptions(auto=True)
"""On the same revision with the same input, from the task that failed or from the beginning."""


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
        latest_revision: of the flow; 0: the flow was deleted.
    """

    flow_revision: int
    taken_over: tuple[ReplayedTask, ...]
    again: tuple[ReplayedTask, ...]
    keeps_idempotency_keys: bool
    latest_revision: int = 0
