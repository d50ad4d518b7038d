"""Plans replays: what a replay takes over, and what it performs again. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from flowhook.errors import ConflictError
from flowhook.events.keys import EventKeys
from flowhook.model import Event, JournalEntry
from flowhook.model.replays import ReplayOptions, ReplayOrigin, ReplayPreview
from flowhook.v1 import envelope_pb2
from router.replay import from_failed_task, from_task
from router.replay.preview import Preview
from router.replay.task_runs import LocatedRun
from router.storage.model import ExecutionContent, ExecutionRecord, Resumption

CONTENT_TYPE: Final = "content-type"
# header fields that describe the bytes of the original body
_OF_BODY: Final = frozenset(
    {"content-encoding", "content-length", "content-md5", "content-digest", "repr-digest", "digest"}
)


class Plan(NamedTuple):
    """What a replay is made of: the same for its start and for its preview."""

    original: ExecutionRecord
    options: ReplayOptions
    content: ExecutionContent
    event: envelope_pb2.Event  # of the new execution
    revision: int  # of the flow, that it runs
    # those of an edited event; else the original's, while storage copies its search attributes
    keys: EventKeys
    resumes: Resumption | None = None  # what it takes over; None: it begins at the beginning
    runs: tuple[LocatedRun, ...] = ()  # tasks of the original; empty where the start does not need them
    cut: from_task.Cut | None = None  # of the original's journal, for a replay from a given task

    def from_given_task(self, runs: tuple[LocatedRun, ...]) -> Plan:
        """Return the plan of a replay that begins at `options.from_task`; for errors see `from_task.cut_before`.

        Blocking: there may be thousands of entries.
        """
        task, output = self.options.from_task, self.options.output
        cut = from_task.cut_before(task, self.original, self.content, runs, self.revision)
        resumes = from_task.resumption(task, cut, self.content, runs, output)
        return self._replace(resumes=resumes, runs=runs, cut=cut)

    def preview(self, definition: Any) -> ReplayPreview:
        """Return which tasks of `definition`, as of `revision`, are taken over, and which run again. Blocking, too."""
        tasks, journal = Preview(definition, self.runs), self.content.journal
        if self.resumes is None:
            again = tasks.again(0, 0, dropped=journal)
            return ReplayPreview(self.revision, (), again, keeps_idempotency_keys=False)
        retained = self.resumes.journal
        if self.cut is not None:
            cut, first = self.cut.position, self.cut.number
        else:
            cut, first = _end_of(retained, self.content), tasks.failed(self.original.error)
        dropped = journal[cut - self.content.journal_start :]
        again = tasks.again(first, cut, retained, task=self.options.from_task, dropped=dropped)
        return ReplayPreview(
            self.revision,
            tasks.taken_over(retained, cut),
            again,
            keeps_idempotency_keys=bool(self.resumes.effect_scope),
        )


def _end_of(retained: Sequence[JournalEntry], content: ExecutionContent) -> int:
    """Return the index after the last entry of a journal that is retained, not held: some before it may be left out."""
    indexes = {id(entry): index for index, entry in enumerate(content.journal, content.journal_start)}
    return max((indexes[id(entry)] + 1 for entry in retained if id(entry) in indexes), default=content.journal_start)


def plan_replay(
    original: ExecutionRecord, options: ReplayOptions, content: ExecutionContent, *, revision: int, event_id: str
) -> Plan:
    """Return the plan of a replay with the event as it was; `Plan.from_given_task` has to follow for one from a task.

    For errors see `from_failed_task.resumption`.
    """
    event = envelope_pb2.Event.FromString(content.payload)
    event.id = event_id
    owner, edited_from = event.replay.attachment_owner, event.replay.edited_from
    event.ClearField("replay")
    event.replay.SetInParent()
    event.replay.edited_from = edited_from
    resumes = _from_failed_task(original, options, content, revision)
    if resumes is not None:
        event.replay.from_failed_task, event.replay.attachment_owner = True, owner
    elif options.from_task:
        event.replay.task, event.replay.output_given = options.from_task, options.output is not None
        event.replay.attachment_owner = owner or original.effect_scope or original.id
    return Plan(original, options, content, event, revision, _keys(original), resumes)


def _keys(original: ExecutionRecord) -> EventKeys:
    """Return the keys of a replay: an operator wants it to run, whatever other events there are.

    It has the batch that the original ran for; one whose event another ran for runs for its own event.
    """
    shaping = original.shaping
    if shaping is not None:
        shaping = shaping.without_group()
        if shaping.batch != original.root:
            shaping = shaping._replace(batch="", events=1)
    return EventKeys(original.order_key, shaping=shaping)


def _from_failed_task(
    original: ExecutionRecord, options: ReplayOptions, content: ExecutionContent, revision: int
) -> Resumption | None:
    """Return what a replay from the failed task takes over; None: it starts elsewhere."""
    if options.from_failed:
        return from_failed_task.resumption(original, content, revision)
    if not options.auto or options.body is not None:
        return None
    try:
        return from_failed_task.resumption(original, content, revision)
    except ConflictError as error:
        if error.reason in ("EXECUTION_NOT_FAILED", "NOTHING_TO_RUN_ANEW"):
            return None
        raise


def edited(event: Event, body: bytes, content_type: str | None, original_id: str) -> Event:
    """Return an event with another body, which was checked, and without what was said of the original one.

    Nobody signed the new body, and it is not the delivery that the original was: it has no principal and no dedupe key.
    The order key is left to the caller.
    """
    kept = [(name, value) for name, value in event.headers if name not in _OF_BODY]
    if content_type is not None:
        kept = [(name, value) for name, value in kept if name != CONTENT_TYPE]
        if content_type:
            kept.append((CONTENT_TYPE, content_type.encode()))
    return event._replace(
        principal=None,
        dedupe_key="",
        order_key="",
        content_type=event.content_type if content_type is None else content_type,
        headers=tuple(kept),
        body=body,
        body_blob=None,
        parts=(),
        form=b"",
        replay=ReplayOrigin(edited_from=original_id),
    )
