"""`/executions/ID/replay`: how to replay an execution, and what will run again, before a button does it."""

from __future__ import annotations

import hashlib
import http
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

import orjson

from admin.console.page import ConsolePage
from flowhook.errors import ConflictError, FlowhookError, InvalidError, UnauthenticatedError
from flowhook.model import Status
from flowhook.model.replays import ReplayPreview
from operations.executions import ExecutionDetailView, GetExecution
from operations.operation import ParameterError
from operations.table import GET_EXECUTION, PREVIEW_REPLAY, REPLAY_EXECUTION

# bytes of a body that the form contains to be edited; a longer one can be replaced, and is not shown
MAX_EDITABLE: Final = 64 * 1024
_CONTROL: Final = re.compile(r"[^\t\n -\U0010ffff]")  # a character that a form would not return as it is
# what follows the task in the key of a journal entry that has its output
_RESULT: Final = re.compile(r"[0-9]+((\.[0-9]+)?:output)?")
STEP: Final = "step"
REASON: Final = "reason"  # field for the audit log; the question what a replay would do is not logged
REQUEST_ID: Final = "request_id"  # field that makes a button that is pressed twice start one execution
# field with a digest of what the page said would run: the button that replays does that, or says what has changed
PREVIEWED: Final = "previewed"
_STEPS: Final = ("preview", "replay")
_NOT_CHOSEN: Final = (REASON, REQUEST_ID, PREVIEWED)
# fields of forms that choose how executions are replayed: such a form sends all of them, whether they apply or not
INPUT: Final = "input"
_ERROR_FIELDS: Final[Mapping[str, str]] = {
    "BODY_TOO_LARGE": "body",
    "CONTENT_TYPE_INVALID": "content_type",
    "EDIT_NOT_FROM_BEGINNING": INPUT,
    "OUTPUT_TOO_LARGE": "output",
    "TASK_NOT_FOUND": "task",
    "TASK_REQUIRED": "task",
    "TASK_WITHOUT_START": "task",
}
BODY_FIELDS: Final = ("body", "content_type")
# all such fields, with what they contain in a form where nothing is chosen
DEFAULTS: Final[Mapping[str, str]] = {
    "revision": "pinned",
    "start": "auto",
    "task": "",
    "output": "",
    INPUT: "recorded",
    **dict.fromkeys(BODY_FIELDS, ""),
}
_INPUTS: Final = ("recorded", "edited")
# fields that only replays from a task have, and what each is for
_TASK_FIELDS: Final = {"task": "begin there", "output": "replay with it"}


class ReplayPage(ConsolePage):
    """`/executions/ID/replay`: the form, with what the URL names, and what that would do."""

    async def show(self, *values: str) -> None:
        await self.show_form(values[0], self.query())

    async def show_form(
        self,
        execution_id: str,
        fields: Mapping[str, Sequence[str]],
        error: FlowhookError | None = None,
        *,
        changed: bool = False,
    ) -> None:
        """Show the form of a replay with what `fields` chooses, and what that replay would do.

        With `changed`, it says that this is no longer what the operator saw. A choice that can't be previewed is shown
        with its error.
        """
        preview = None
        reason = fields.get(REASON, [""])[0]
        fields = {name: values for name, values in fields.items() if name not in _NOT_CHOSEN}
        detail = await self.perform(GET_EXECUTION, GetExecution(execution_id=execution_id))
        text = await self._editable_body(execution_id)
        shown = _shown(fields, detail, text)
        newer = detail.latest_revision if detail.latest_revision > detail.flow_revision else 0
        if newer and "revision" not in fields:
            shown["revision"] = "latest"
        self.error_fields = error_fields(shown["start"])
        if error is None or self.invalid_fields(error).keys() == {REASON}:  # it stands below the preview
            try:
                preview = await self._preview(execution_id, shown, fields)
            except UnauthenticatedError:
                raise
            except FlowhookError as problem:
                error = problem
        if error is not None:
            self.set_status_of(error)
        tasks = _tasks(detail, shown["task"])
        self.finish_page(
            "replay.html",
            execution=detail,
            fields=shown,
            tasks=tasks,
            newer=newer,
            editable=text is not None,
            preview=preview,
            ignored=ignored(shown, {"output": "", "body": text or "", "content_type": detail.request.content_type}),
            error=error,
            changed=changed,
            reason=reason,
            previewed=digest(
                {**shown, "task": shown["task"] or (tasks[0]["task"] if tasks else "")},
                preview.flow_revision if preview is not None and shown["revision"] == "latest" else 0,
            ),
            request_id=secrets.token_hex(16),
        )

    async def _preview(
        self, execution_id: str, shown: dict[str, str], given: Mapping[str, Sequence[str]]
    ) -> ReplayPreview:
        changes: list[dict[str, str]] = [{}]
        if "revision" not in given and shown["revision"] == "latest":
            changes.append({"revision": "pinned"})
        if not given and shown["start"] == "failed_task":
            changes.append({"start": "beginning"})
        for change in changes[:-1]:
            try:
                preview = await self.ask(execution_id, shown | change)
            except ConflictError:
                continue
            shown.update(change)
            return preview
        shown.update(changes[-1])
        return await self.ask(execution_id, shown)

    async def ask(self, execution_id: str, fields: Mapping[str, str]) -> ReplayPreview:
        given = {name: text for name, text in chosen(fields).items() if name not in _NOT_CHOSEN}
        parameters = PREVIEW_REPLAY.read({"execution_id": execution_id}, given)
        preview: ReplayPreview = await self.perform(PREVIEW_REPLAY, parameters)
        return preview

    async def _editable_body(self, execution_id: str) -> str | None:
        """Return the body, if it is text that a form can contain; else None."""
        body = await self.first_bytes(execution_id, MAX_EDITABLE)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return None
        return None if len(body) > MAX_EDITABLE or _CONTROL.search(text) else text


class ReplayHandler(ReplayPage):
    """Takes the form: shows what would run again, or starts the replay and redirects to it."""

    SUPPORTED_METHODS = ("POST",)

    async def submit(self, *values: str) -> None:
        """Replay the execution if the form is what was previewed; else show it again, with a preview or an error."""
        fields = self.checked_form()
        step = fields.pop(STEP, ["replay"])[0]
        previewed = fields.pop(PREVIEWED, [""])[0]
        if step not in _STEPS:
            raise InvalidError(f"{STEP}: write {' or '.join(_STEPS)}", reason="PARAMETER_INVALID")
        if step == "preview":
            await self.show_form(values[0], fields)
            return
        single = _single(fields)
        try:
            parameters = REPLAY_EXECUTION.read({"execution_id": values[0]}, chosen(single))
            # the revision that a replay would run now if that is the latest one; else the recorded one stays
            is_latest = bool(previewed) and single.get("revision") == "latest"
            latest = (await self.ask(values[0], single)).flow_revision if is_latest else 0
            is_changed = bool(previewed) and previewed != digest(single, latest)
            started = None if is_changed else await self.perform(REPLAY_EXECUTION, parameters)
        except UnauthenticatedError:
            raise
        except FlowhookError as error:
            await self.show_form(values[0], fields, error)
        else:
            if started is None:
                self.set_status(http.HTTPStatus.CONFLICT)
                await self.show_form(values[0], fields, changed=True)
                return
            self.see_other(f"/executions/{quote(started.id, safe='')}")


def chosen(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that a form means: it sends all of its fields, whether they apply or not."""
    left_out = unused(fields) | {name for name in (REASON, REQUEST_ID) if not fields.get(name)}
    return {name: text for name, text in fields.items() if name not in left_out}


def _single(fields: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return fields that are given once. Raises `ParameterError`: one is given more than once."""
    if repeated := [name for name, values in fields.items() if len(values) > 1]:
        raise ParameterError(f"{repeated[0][:100]} may be given once", dict.fromkeys(repeated, "may be given once"))
    return {name: values[0] for name, values in fields.items()}


def _shown(fields: Mapping[str, Sequence[str]], detail: ExecutionDetailView, text: str | None) -> dict[str, str]:
    failed = detail.status in (Status.FAULTED, Status.CANCELLED)
    given = _single(fields)
    return {
        **DEFAULTS,
        "start": "task" if given.get("task") else "failed_task" if failed and not fields else "beginning",
        "body": text or "",
        "content_type": detail.request.content_type,
        **{name: value for name, value in given.items() if value or name in BODY_FIELDS},
    }


def _tasks(detail: ExecutionDetailView, task: str) -> list[dict[str, str]]:
    """Return the tasks to choose from, each once, with what became of them; and the given one, if it is another."""
    ran = {run.task: str(run.state) for run in detail.tasks}
    results = (entry.key.rpartition("#") for entry in detail.journal if entry.error is None)
    states = {name: "taken over" for name, _, visit in results if _RESULT.fullmatch(visit) and name not in ran} | ran
    if task:
        states.setdefault(task, "")
    return [{"task": name, "state": state} for name, state in states.items()]


def error_fields(start: str) -> dict[str, str]:
    return {**_ERROR_FIELDS, "BODY_INVALID": "output" if start == "task" else "body"}


def unused(given: Mapping[str, str]) -> set[str]:
    edited = given.get(INPUT, "recorded")
    if edited not in _INPUTS:
        text = f"write {' or '.join(_INPUTS)}"
        raise ParameterError(f"{INPUT}: {text}", {INPUT: text})
    names = {name for name in ("output", "revision", "start", "task") if not given.get(name)}
    if edited == "recorded":
        names.update(BODY_FIELDS)
    if given.get("start") != "task":
        names.update(_TASK_FIELDS)
    return names | {INPUT}


def digest(fields: Mapping[str, str], latest: int = 0) -> str:
    """Return a digest of all that a form chooses, whether it applies or not.

    `latest`: the revision that would run now, if the form chooses the latest one and names it; else 0.
    """
    texts = [(fields.get(name) or default).replace("\r\n", "\n") for name, default in DEFAULTS.items()]
    return hashlib.sha256(orjson.dumps([latest, *texts])).hexdigest()


def ignored(shown: Mapping[str, str], untouched: Mapping[str, str] = DEFAULTS) -> list[str]:
    """Return sentences about what was entered, but does not apply to what is chosen.

    `untouched`: what the form contains before anything is entered.
    """
    entered = {name for name in untouched if shown[name] != untouched[name]}
    sentences = []
    if shown[INPUT] == "recorded" and not entered.isdisjoint(BODY_FIELDS):
        sentences.append("The input that you edited below is not used: choose “edited” to replay with it.")
    if shown["start"] != "task":
        sentences += [
            f"The {name} that you gave below is not used: choose “at this task” to {use}."
            for name, use in _TASK_FIELDS.items()
            if name in entered
        ]
    return sentences
