"""Plans replays: what a replay takes over, and what it performs again. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import attrs

from flowhook.document.definition import kind_of
from flowhook.errors import ConflictError
from flowhook.events.keys import EventKeys
from flowhook.model import Event, JournalEntry, TaskState, WorkflowError, held_results
from flowhook.model.replays import ReplayedTask, ReplayOptions, ReplayOrigin, ReplayPreview
from flowhook.v1 import envelope_pb2
from router.replay import resumption
from router.replay.journal_keys import JournalPosition, LocatedRun, is_around, position_of, position_of_task, results_of
from router.storage.model import ExecutionContent, ExecutionRecord, Resumption

MAX_TASKS: Final = 1000  # tasks in each list of a preview
# kinds of tasks whose results are in the journal
_EFFECTS: Final = frozenset({"call", "emit", "listen", "run", "wait"})
_EXTENDED: Final = ":extended"
CONTENT_TYPE: Final = "content-type"
# header fields that describe the bytes of the original body
_OF_BODY: Final = frozenset(
    {"content-encoding", "content-length", "content-md5", "content-digest", "repr-digest", "digest"}
)


@attrs.define(eq=False, repr=False)
class Preview:
    """The tasks of one execution, as a replay sees them."""

    _definition: Any
    _runs: Sequence[LocatedRun]

    def taken_over(self, retained: Sequence[JournalEntry], cut: int) -> tuple[ReplayedTask, ...]:
        """Return the tasks whose results are taken over.

        The replay begins with the journal `retained`; `cut` is the index of the first entry of the original journal
        that is not part of it.
        """
        ended = (run for run in self._runs if run.end is not None and run.end <= cut)
        done = [run.task for run in ended if run.state is TaskState.COMPLETED and self._kind(run.task) in _EFFECTS]
        entries = [entry for entry in retained if not entry.key.endswith(held_results.GIVEN_OUTPUT)]
        return self._described([*done, *(position.task for position in _positions_of(entries))])

    def again(
        self,
        number: int | None,
        cut: int,
        retained: Sequence[JournalEntry] = (),
        *,
        task: str = "",
        dropped: Sequence[JournalEntry] = (),
    ) -> tuple[ReplayedTask, ...]:
        """Return the tasks that run again: those from a run on, and those that were under way beside it.

        Args:
            number: of the first run that is run again; None: none is known.
            cut: as in `taken_over`.
            retained: as in `taken_over`. Tasks whose results are held do not run again although they come later.
            task: that the replay begins with, if that is given.
            dropped: entries of the original journal that are not retained. Some may be of tasks that the original took
                over itself, so that it has no runs of them.
        """
        prefix = held_results.PREFIX
        keys = (entry.key.removeprefix(prefix) for entry in retained if entry.key.startswith(prefix))
        held = Counter(position.task for position in {*_positions(keys)})
        known, inner = frozenset(_positions_of(retained)), position_of_task(task)
        known_tasks = {position.task for position in known}
        ran = {run.task for run in self._runs}
        in_order = _positions(entry.key for entry in dropped if not entry.key.startswith(held_results.PREFIX))
        unseen = (at.task for at in in_order if at.task not in ran and at.task not in held)
        found = [each for each in unseen if self._kind(each)]
        for run in self._runs:
            if run.state is TaskState.SKIPPED:
                continue
            is_later = number is not None and run.number >= number
            if held[run.task] and (is_later or run.end is None or run.end > cut):
                held[run.task] -= 1
            elif is_later:
                found.append(run.task)
            elif (run.end is None or run.end > cut) and self._kind(run.task) in _EFFECTS:
                outer = position_of_task(run.task)
                is_again = run.task not in known_tasks
                if outer is not None and inner is not None and is_around(outer, inner):
                    # an extension of a task is performed after it, unless it was before that visit of the task
                    visit = task.removeprefix(f"{run.task}#").partition(" ")[0]
                    at = outer._replace(visit=visit.removesuffix(_EXTENDED))
                    is_again = visit != task and visit.endswith(_EXTENDED) and at not in known
                if is_again:
                    found.append(run.task)
        return self._described(found)

    def failed(self, error: WorkflowError | None) -> int | None:
        """Return the number of the run that a replay from the failed task begins with; None: unknown."""
        if error is None:
            return None
        cause = None if error.raising is None else position_of(error.raising.cause)
        failed = (run for run in self._runs if run.state is not TaskState.COMPLETED)
        if cause is not None:
            return max((run.number for run in failed if run.task == cause.task), default=None)
        places = ((run.number, position_of_task(run.task)) for run in failed)
        return max((number for number, at in places if at is not None and at.pointer == error.instance), default=None)

    def _described(self, tasks: Iterable[str]) -> tuple[ReplayedTask, ...]:
        distinct = list(dict.fromkeys(tasks))[:MAX_TASKS]
        return tuple(ReplayedTask(task, self._kind(task)) for task in distinct)

    def _kind(self, task: str) -> str:
        position = position_of_task(task)
        text = "" if position is None else position.pointer + position.iteration
        while not (kind := kind_of(_at(self._definition, text))) and text.endswith("]"):
            text = text.rpartition("[")[0]  # an index, unless names end like one
        return kind or ""


def _positions_of(entries: Sequence[JournalEntry]) -> list[JournalPosition]:
    ordered, held = held_results.split_held(entries)
    return _positions(entry.key for entry in (*results_of(ordered).values(), *held.values()))


def _positions(keys: Iterable[str]) -> list[JournalPosition]:
    return [position for key in keys if (position := position_of(key)) is not None]


def _at(value: Any, pointer: str) -> Any:
    if not pointer.startswith("/"):
        return None
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


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
    cut: resumption.Cut | None = None  # of the original's journal, for a replay from a given task

    def from_given_task(self, runs: tuple[LocatedRun, ...]) -> Plan:
        """Return the plan of a replay that begins at `options.from_task`; for errors see `resumption.cut_before`.

        Blocking: there may be thousands of entries.
        """
        task, output = self.options.from_task, self.options.output
        cut = resumption.cut_before(task, self.original, self.content, runs, self.revision)
        resumes = resumption.from_task(task, cut, self.content, runs, output)
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

    For errors see `resumption.from_failed_task`.
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
    if not options.from_failed and (not options.auto or options.body is not None):
        return None
    try:
        return resumption.from_failed_task(original, content, revision)
    except ConflictError as error:
        if options.auto and error.reason in ("EXECUTION_NOT_FAILED", "NOTHING_TO_RUN_ANEW"):
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
