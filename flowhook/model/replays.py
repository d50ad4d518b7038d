"""Domain types of replays: how one is made, what it took over, and what it would do."""

from __future__ import annotations

from typing import Final, NamedTuple


class ReplayOptions(NamedTuple):
    """How executions are replayed; see `Client.executions.replay`."""

    latest: bool = False  # on the latest revision of the flow, rather than on that of the execution
    from_failed: bool = False  # from the task that failed, rather than from the beginning
    from_task: str = ""  # from the first run of this task, as in `TaskRun.task`; empty: not from a given task
    output: bytes | None = None  # raw output of `from_task` as JSON: the task is not performed; None: it is
    body: bytes | None = None  # body instead of the stored one, from the beginning only; None: the stored one
    content_type: str | None = None  # media type of `body`; None: that of the stored request
    # from the task that failed if there is one that would run anew, and `body` is not given; else from the beginning
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


AS_RECORDED: Final = ReplayOptions()  # on the same revision with the same input, from the beginning

AUTO: Final = ReplayOptions(auto=True)
"""On the same revision with the same input, from the task that failed or from the beginning."""


class ReplayOrigin(NamedTuple):
    """What a replay took over from the execution that it replays; see `flowhook.v1.ReplayOrigin`.

    Without `from_failed_task` and `task` it began at the beginning.
    """

    from_failed_task: bool = False  # whether it began at the task that had failed
    task: str = ""  # task that it began at, as in `TaskRun.task`; empty: none was named
    output_given: bool = False  # whether `task` was not performed, but given an output
    edited_from: str = ""  # ID of the execution whose request the event is an edited copy of; empty: it is as received
    attachment_owner: str = ""  # ID that handles of attachments begin with; empty: the scope of idempotency keys

    @property
    def start(self) -> str:
        """Where it began: `beginning`, `failed_task` or `task`."""
        return "task" if self.task else "failed_task" if self.from_failed_task else "beginning"


class ReplayedTask(NamedTuple):
    """A task of an execution that is replayed."""

    task: str  # as in `TaskRun.task`
    kind: str  # kind of task in the DSL, such as `call`; empty: the revision that would run has no such task


class ReplayPreview(NamedTuple):
    """What a replay would do."""

    flow_revision: int  # revision that it would run
    taken_over: tuple[ReplayedTask, ...]  # tasks whose results are taken over: these are not performed
    again: tuple[ReplayedTask, ...]  # tasks of the original that run again if the flow takes the same course
    keeps_idempotency_keys: bool  # whether calls are made with the idempotency keys of the original
    latest_revision: int = 0  # of the flow; 0: the flow was deleted
