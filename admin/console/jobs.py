"""`/jobs/new` and `/jobs/ID`."""

from __future__ import annotations

import http
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs, quote, urlencode

from admin.console.page import ConsolePage, query_of
from admin.console.replay import DEFAULTS, digest, error_fields, ignored, unused
from flowhook.errors import ExhaustedError, FlowhookError, InvalidError
from flowhook.model import Status
from flowhook.model.jobs import ItemOutcome, JobAction, JobState
from operations.execution_list import ExecutionConditions, to_pairs
from operations.jobs import JobDraft, PreviewView
from operations.operation import Operation, P, ParameterError
from operations.table import CREATE_JOB, GET_JOB, LIST_JOB_ITEMS, PREVIEW_JOB

PREVIEWED: Final = "previewed"  # field with the action and the conditions that the last preview was about
# field with a digest of how the last preview said that executions are replayed
PREVIEWED_CHOICES: Final = "previewed_choices"
SEEN: Final = "seen"  # parameter with the state that the page of a job shows
_NOTHING: Final = "-"  # value of these fields if there was no preview: nothing that can be chosen is this
_PREVIEWS: Final = (PREVIEWED, PREVIEWED_CHOICES)
_NOT_PREVIEWED: Final = ("reason", "request_id", *_PREVIEWS)


class NewJobPage(ConsolePage):
    """`/jobs/new`: conditions on executions, how many meet them, what happens to them, and the button that does it."""

    async def show(self, *_values: str) -> None:
        await self.show_form(self.query())

    async def show_form(
        self, fields: Mapping[str, Sequence[str]], error: FlowhookError | None = None, notice: str = ""
    ) -> None:
        """Respond with the form, filled in, and with what the job would do, or with an error."""
        given = {name: values for name, values in fields.items() if name not in _NOT_PREVIEWED}
        choices = {name: given.get(name, [""])[0] or default for name, default in DEFAULTS.items()}
        try:
            draft = _read(PREVIEW_JOB, given)
        except ParameterError as problem:
            error = error or problem
            draft = _read(PREVIEW_JOB, given, problem.fields)
            # lest a job be created for conditions of which nobody has seen a preview
            previewed, previewed_choices = (fields.get(name, [""])[0] or _NOTHING for name in _PREVIEWS)
            query = ""
        else:
            draft = _with_absolute_times(draft) if fields else draft
            previewed, previewed_choices = _subject(draft), ""
            query = urlencode(to_pairs(draft.as_filter(datetime.now(UTC))))
        self.error_fields = error_fields(draft.start)
        preview, newer = None, {}
        if fields and error is None:
            try:
                preview = await self.perform(PREVIEW_JOB, draft)
                newer = {
                    execution.flow_id: replay.preview.latest_revision
                    for execution, replay in zip(preview.sample, preview.replays, strict=False)
                    if replay.preview is not None and replay.preview.latest_revision > execution.flow_revision
                }
                if newer and "revision" not in given:
                    choices["revision"] = "latest"
                    draft = draft.model_copy(update={"revision": "latest"})
                    preview = await self.perform(PREVIEW_JOB, draft)
            except (InvalidError, ExhaustedError) as problem:
                error = problem
        if error is not None:
            self.set_status_of(error)
        self.finish_page(
            "job_new.html",
            draft=draft,
            choices=choices,
            ignored=ignored(choices) if draft.action is JobAction.REPLAY else [],
            filters=draft,
            given=bool(fields),
            changed=notice,
            preview=preview,
            error=error,
            tasks=_tasks(preview),
            reason=fields.get("reason", [""])[0],
            previewed=previewed,
            previewed_choices=previewed_choices or digest(choices),
            newer=newer,
            query=query,
            statuses=list(Status),
            actions=list(JobAction),
            request_id=uuid.uuid4().hex,
        )


class PreviewJobHandler(NewJobPage):
    """Takes the form, which may be too long for a URL, and shows what the job would do."""

    SUPPORTED_METHODS = ("POST",)

    async def submit(self, *_values: str) -> None:
        await self.show_form(_as_previewed(self.checked_form())[0])


class CreateJobHandler(NewJobPage):
    """Takes the form, creates the job, and redirects to it."""

    SUPPORTED_METHODS = ("POST",)

    async def submit(self, *_values: str) -> None:
        fields, unchanged = _as_previewed(self.checked_form())
        if not unchanged:
            self.set_status(http.HTTPStatus.CONFLICT)
            await self.show_form(fields, notice="No job was created: you changed what it does. This is it now.")
            return
        try:
            job = await self.perform(CREATE_JOB, _read(CREATE_JOB, fields))
        except (InvalidError, ExhaustedError) as error:
            await self.show_form(fields, error)
        else:
            self.see_other(f"/jobs/{quote(job.id, safe='')}")


def _read(operation: Operation[P], fields: Mapping[str, Sequence[str]], invalid: Collection[str] = ()) -> P:
    """Return the parameters that a form means; an edited body may be empty. `invalid` ones are as they were typed."""
    left_out = {*_PREVIEWS, *unused({name: values[0] for name, values in fields.items()})}
    given = {name: values for name, values in fields.items() if name not in left_out}
    body = given.pop("body", None)
    parameters = operation.draft({}, given, invalid) if invalid else operation.read_query({}, given)
    return parameters if body is None else parameters.model_copy(update={"body": body[0]})


def _with_absolute_times(draft: JobDraft) -> JobDraft:
    """Return a draft whose times do not depend on now: the job takes the executions that were previewed."""
    pairs = to_pairs(draft.as_filter(datetime.now(UTC)))
    return draft.model_copy(update={name: value for name, value in pairs if name in ("since", "until")})


def _subject(draft: JobDraft) -> str:
    return urlencode([("action", draft.action.value), *to_pairs(draft.as_filter(datetime.now(UTC)))])


def _as_previewed(fields: Mapping[str, Sequence[str]]) -> tuple[Mapping[str, Sequence[str]], bool]:
    """Return the fields of a form, and whether its action, conditions and choices are those that were previewed.

    Then conditions are the previewed ones to the letter: browsers remove line breaks from fields of one line. A form
    with invalid fields is returned as it is.
    """
    given = {name: values for name, values in fields.items() if name not in _PREVIEWS}
    previewed, choices = (fields.get(name, [""])[0] for name in _PREVIEWS)
    unchanged = not choices or choices == digest({name: values[0] for name, values in given.items()})
    try:
        draft = _read(PREVIEW_JOB, {name: values for name, values in given.items() if name not in _NOT_PREVIEWED})
    except ParameterError:
        return fields, True
    if not previewed or _without_breaks(_subject(draft)) != _without_breaks(previewed):
        return given, not previewed
    subject = {"action", *ExecutionConditions.model_fields}
    return {name: values for name, values in given.items() if name not in subject} | parse_qs(previewed), unchanged


def _without_breaks(query: str) -> str:
    return query.replace("%0A", "").replace("%0D", "")


def _tasks(preview: PreviewView | None) -> list[str]:
    previews = () if preview is None else (each.preview for each in preview.replays if each.preview is not None)
    return list(dict.fromkeys(each.task for one in previews for each in (*one.taken_over, *one.again)))


class JobDetailPage(ConsolePage):
    """`/jobs/ID`: what a job does, its progress, and the outcomes of its executions."""

    async def show(self, *values: str) -> None:
        """Show a job, and a page of what became of its executions."""
        path = {"job_id": values[0]}
        parameters = LIST_JOB_ITEMS.read_query(path, self.query())
        job = await self.perform(GET_JOB, GET_JOB.read(path, {}))
        page = await self.perform(LIST_JOB_ITEMS, parameters)
        self.finish_page(
            "job.html",
            job=job,
            page=page,
            outcome=parameters.outcome,
            outcomes=[ItemOutcome.DONE, ItemOutcome.SKIPPED, ItemOutcome.FAILED],
            query=urlencode(job.pairs),
            first=not parameters.page_token,
            start=query_of(parameters),
            here=query_of(parameters, page_token=parameters.page_token),
            further=query_of(parameters, page_token=page.next_page_token),
        )


class JobProgress(ConsolePage):
    """`/jobs/ID/progress`: the part of the page of a job that changes; the page asks for it every second."""

    SUPPORTED_METHODS = ("GET",)
    is_part = True

    async def show(self, *values: str) -> None:
        seen = self.query().get(SEEN, [""])[0]
        job = await self.run(GET_JOB, {"job_id": values[0]}, {})
        if job.state != seen and (job.state.ended or job.state is JobState.PAUSED):
            self.set_header("HX-Refresh", "true")
        self.finish_page("job_progress.html", job=job)
