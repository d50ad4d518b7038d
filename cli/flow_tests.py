"""Tests of flows: what a file says is sent, answered and expected, and the run that is compared with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cli.given_events import SentRequest, callback_event, emitted_event, secrets_of, start_event
from flowhook.document.diagnostics.problems import key_of
from flowhook.document.diagnostics.shapes import check_shape
from flowhook.json import verbatim
from flowhook.model import Reply
from flowhook.model.error_types import Kind
from flowhook.payloads.content_type import is_json
from flowhook.wire import convert
from operations.comparison import find_differences
from runner import ipc
from runner.interpreter.errors import error
from runner.local_run import run_document

if TYPE_CHECKING:
    from flowhook.document.loader import FlowDocument
    from flowhook.process.settings import RunnerSettings

_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_ENDS: Final = ("output", "error", "waiting", "reply")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Content(_Part):
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any = None
    text: str | None = None

    @property
    def content(self) -> bytes:
        if self.text is not None:
            return self.text.encode()
        return orjson.dumps(self.body, option=orjson.OPT_INDENT_2) if "body" in self.model_fields_set else b""


class _Request(_Content):
    """A request, as its sender makes it."""

    content_type: str = _JSON

    @model_validator(mode="after")
    def _has_a_body(self) -> _Request:
        if ("body" in self.model_fields_set) == (self.text is not None):
            raise ValueError("set either body or text")
        return self

    def as_sent(self) -> SentRequest:
        return SentRequest(self.content, self.content_type, tuple(self.headers.items()), ())


class _Callback(_Request):
    """A request to a callback of the flow."""

    callback: str


class _Error(_Part):
    """An error that a call ends with."""

    type: Kind = Kind.COMMUNICATION
    status: Annotated[int, Field(ge=100, le=599)] | None = None
    detail: str = ""


class _Call(_Content):
    """What answers a call of the flow, see `ipc.CallMock`, and what the call is to send."""

    call: str = ""
    task: str = ""
    sent: Any = None
    output: Any = None
    error: _Error | None = None
    status: Annotated[int, Field(ge=200, le=599)] = 200

    @model_validator(mode="after")
    def _is_one_answer(self) -> _Call:
        if not (self.call or self.task):
            raise ValueError("set call, task or both")
        given = self.model_fields_set
        kinds: list[str] = [name for name in ("output", "error") if name in given]
        kinds += ["a response"] if given & {"status", "headers", "body", "text"} else []
        if len(kinds) > 1 or {"body", "text"} <= given:
            raise ValueError("an answer is either output, error, or a response: status, headers, and body or text")
        return self

    def as_mock(self) -> ipc.CallMock:
        content_type = _TEXT if self.text is not None else _JSON
        problem = self.error
        return ipc.CallMock(
            self.call,
            self.task,
            orjson.dumps(self.output) if "output" in self.model_fields_set else None,
            None if problem is None else error(problem.type, problem.detail or "mocked", status=problem.status),
            self.status,
            tuple({"Content-Type": content_type, **self.headers}.items()),
            self.content,
        )


class FlowTest(_Request):
    """The content of a file; docs/commands.md describes it."""

    title: str = ""
    source: str = ""
    secrets: dict[str, str] = Field(default_factory=dict)
    events: list[dict[str, Any]] = Field(default_factory=list)
    calls: list[_Call] | None = None
    reply: dict[str, Any] | None = None
    output: Any = None
    error: dict[str, Any] | None = None
    waiting: str = ""

    @model_validator(mode="after")
    def _expects_something(self) -> FlowTest:
        if not self.model_fields_set.intersection(_ENDS):
            raise ValueError(f"say what is expected: {', '.join(_ENDS[:-1])} or {_ENDS[-1]}")
        return self


async def run_test(document: FlowDocument, content: bytes, settings: RunnerSettings) -> list[str]:
    """Run a flow with the events of a test, and return the differences to what that expects.

    Raises:
        OSError: no process can be started.
    """
    try:
        data = orjson.loads(content)
        if mistakes := _mistakes(FlowTest, data):
            return mistakes
        test = FlowTest.model_validate(data)
        start = start_event(document, test.as_sent())
        events, mistakes = [], []
        for index, event in enumerate(test.events):
            where = f"events[{index}]"
            if "callback" not in event:
                events.append(emitted_event(where, event))
            elif not (found := _mistakes(_Callback, event, ("events", index))):
                request = _Callback.model_validate(event)
                events.append(callback_event(where, document, request.callback, request.as_sent()))
            else:
                mistakes += found
        if mistakes:
            return mistakes
    except orjson.JSONDecodeError as problem:
        return [f"not a test: it is not JSON: {problem}"]
    except typer.BadParameter as problem:
        return [f"not a test: {problem.message.removeprefix('--')}"]
    order = ipc.RunDocument(
        settings,
        orjson.dumps(document.definition),
        convert.event_to_bytes(start),
        secrets_of(document.workflow.use.secrets, {name: value.encode() for name, value in test.secrets.items()}),
        events=events,
        skip_waits=True,
        mocks=None if test.calls is None else [call.as_mock() for call in test.calls],
        stops_waiting=bool(test.waiting),
    )
    said: list[ipc.Message] = []
    ended = await run_document(order, said.append)
    replies = [each.reply for each in said if isinstance(each, ipc.ReplySent)]
    mocked = [each for each in said if isinstance(each, ipc.CallMocked)]
    if ended.unanswered:
        return [ended.unanswered]
    return [
        *_differences({name: data[name] for name in _ENDS if name in data}, _outcome(document, test, ended, replies)),
        *_unused(test, ended, mocked),
    ]


def _mistakes(model: type[BaseModel], data: Any, path: tuple[int | str, ...] = ()) -> list[str]:
    problems = [
        (key_of(each.path), each.cause.removeprefix("value error, ")) for each in check_shape(model, data, path)
    ]
    return [f"not a test: {f'{key}: ' if key else ''}{cause}" for key, cause in problems]


def _outcome(document: FlowDocument, test: FlowTest, ended: ipc.RunEnded, replies: list[Reply]) -> dict[str, Any]:
    """Return what came out, without what the test says nothing about."""
    outcome: dict[str, Any] = {}
    if ended.error is not None:
        members = ended.error.as_dict(document.execution.error_types)
        outcome["error"] = {name: each for name, each in members.items() if test.error is None or name in test.error}
    elif ended.waiting:
        outcome["waiting"] = test.waiting if test.waiting == ended.waiting.rpartition("/")[2] else ended.waiting
    elif {"output", "error", "waiting"} & test.model_fields_set:
        outcome["output"] = orjson.loads(ended.output or b"null")
    if test.reply is not None and replies:
        outcome["reply"] = {name: each for name, each in _shown(replies[0]).items() if name in test.reply}
        if isinstance(wanted := test.reply.get("headers"), dict):
            found = outcome["reply"]["headers"]
            outcome["reply"]["headers"] = {name: found[name.lower()] for name in wanted if name.lower() in found}
    return outcome


def _shown(reply: Reply) -> dict[str, Any]:
    headers = {name.lower(): value.decode("latin-1") for name, value in reply.headers}
    text = reply.body.decode("utf-8", "replace")
    body = orjson.loads(text) if is_json(headers.get("content-type", "")) and text else text
    return {"status": reply.status, "headers": headers, "body": body}


def _unused(test: FlowTest, ended: ipc.RunEnded, mocked: list[ipc.CallMocked]) -> Iterator[str]:
    """Yield what was sent otherwise than the test says, the answers to calls that were not made, unreceived events."""
    calls = test.calls or []
    for each in mocked:
        if "sent" in calls[each.mock].model_fields_set:
            yield from _differences(calls[each.mock].sent, orjson.loads(each.sent), f"/calls/{each.mock}/sent")
    made = {each.mock for each in mocked}
    for index, call in enumerate(calls):
        if index not in made:
            yield f"/calls/{index}: {call.call or call.task} was not called"
    yield from (f"/events/{index}: the flow did not receive it" for index in ended.unreceived)


def _differences(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    first, second = (verbatim.loads(orjson.dumps(each)) for each in (wanted, found))
    for each in find_differences(first, second):
        expected = each.first or "nothing"
        yield f"{path}{each.path}: expected {expected}, but it is {each.second or 'not there'}"
