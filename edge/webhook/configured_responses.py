"""Compiled configured responses (`webhook.respond`): the constant parts are bytes, the rest a few accessors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from edge.http import responses
from edge.http.responses import Response
from flowhook import limits
from flowhook.document.models.webhook import BODYLESS_STATUSES, RESERVED_HEADERS, OnFault, Respond
from flowhook.errors import InvalidError
from flowhook.events.ids import LENGTH
from flowhook.expressions.paths import compile_accessor, paths_in
from flowhook.expressions.syntax import is_expression, strip_markers
from flowhook.providers.scheme import TOKEN

Template = Callable[[Any], Any]  # evaluates to a value, given the value of `.`

# A longer value is left empty: senders and proxies would treat the whole response as malformed.
MAX_HEADER_VALUE_BYTES: Final = 4 * limits.KIB
_ID: Final = "${ .id }"
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DATE: Final = "date"
_NOT_A_FLOWS: Final = RESERVED_HEADERS | {_DATE}
_LINE_ENDS: Final = re.compile(rb"[\x00\r\n]")


class ConfiguredResponse:
    """The configured response of a flow to an accepted request."""

    __slots__ = ("_after", "_before", "_body", "_fixed", "_head", "_headers", "_status", "needs_view", "paths")

    def __init__(self, respond: Respond | OnFault) -> None:
        self._status = respond.status
        media_type = "text/plain; charset=utf-8" if isinstance(respond.body, str) else "application/json"
        has_content = respond.body is not None and not responses.has_no_content(respond.status)
        self._headers = _compile_headers(respond.headers, media_type if has_content else "")
        self._body = _compile(respond.body)
        self._fixed: Response | None = None
        self._head, self._before, self._after = b"", b"", b""
        expressions = set(_expressions([*respond.headers.values(), respond.body]))
        # whether expressions read more than the event's ID, so that `render` needs the request
        self.needs_view = bool(expressions - {strip_markers(_ID)})
        # paths of `.` that they read
        self.paths = [path for expression in expressions for path in paths_in(expression)]
        if not expressions:
            self._fixed = self._render({})
        elif expressions == {strip_markers(_ID)} and not any(map(is_expression, respond.headers.values())):
            # only the ID varies: all IDs are equally long, and need no escaping
            mark = "0" * LENGTH
            answer = self._render({"id": mark})
            if respond.body is not None and answer.body.count(mark.encode()) == 1:
                self._head = answer.head
                self._before, self._after = answer.body.split(mark.encode())

    def render(self, event_id: str, view: Mapping[str, Any] | None) -> Response:
        """Return the response. `view` is the value of `.`; None unless `needs_view`."""
        if self._before and len(event_id) == LENGTH:
            return Response(self._status, self._head, self._before + event_id.encode() + self._after)
        return self._fixed or self._render({**(view or {}), "id": event_id})

    def _render(self, view: Mapping[str, Any]) -> Response:
        value = self._body(view)
        if value is None:
            body = b""
        elif isinstance(value, str):
            body = value.encode("utf-8", "replace")
        else:
            body = _json(value)
        return responses.build_response(self._status, _render_headers(self._headers, view), body)


class FlowResponse:
    """The responses of a flow in mode `reply`; expressions of headers have a value if they read the ID alone."""

    __slots__ = ("_fault", "_fault_headers", "_fault_status", "_headers", "_status", "timeout")

    def __init__(self, respond: Respond) -> None:
        self.timeout = respond.timeout  # maximum time in seconds for which a request is held
        self._status, fault = respond.status, respond.on_fault
        self._headers = _compile_headers(respond.headers, "application/json")
        self._fault = None if fault.body is None else ConfiguredResponse(fault)
        self._fault_status, self._fault_headers = fault.status, _compile_headers(fault.headers, "")

    def output(self, execution_id: str, body: bytes) -> Response:
        headers = _render_headers(self._headers, {"id": execution_id})
        return responses.build_response(self._status, headers, b"" if self._status in BODYLESS_STATUSES else body)

    def reply(self, status: int, headers: Sequence[tuple[str, bytes]], body: bytes) -> Response:
        """Return the flow's reply as a response, without fields that concern the connection or are malformed."""
        fields = [
            (name.encode("ascii"), value)
            for name, value in headers
            if name.lower() not in _NOT_A_FLOWS and TOKEN.fullmatch(name) and not _LINE_ENDS.search(value)
        ]
        return responses.build_response(status, fields, b"" if status in BODYLESS_STATUSES else body)

    def fault(self, execution_id: str) -> Response:
        """Return the response for a flow that ended without a reply; it does not reveal the cause."""
        if self._fault is not None:
            return self._fault.render(execution_id, None)._replace(reason=responses.FLOW_FAULTED)
        return responses.problem(
            self._fault_status,
            responses.FLOW_FAULTED,
            "The flow ended without an answer.",
            headers=_render_headers(self._fault_headers, {"id": execution_id}),
            execution_id=execution_id,
        )


def _compile_headers(headers: Mapping[str, str], content_type: str) -> list[tuple[bytes, Template]]:
    """Return templates of header fields without Date, and with a Content-Type, unless that is empty or there is one."""
    fields = {name.lower(): (name.encode("ascii"), value) for name, value in headers.items()}
    fields.pop(_DATE, None)
    if content_type and "content-type" not in fields:
        fields = {"content-type": (b"Content-Type", content_type), **fields}
    return [(name, _compile(value)) for name, value in fields.values()]


def _render_headers(headers: Sequence[tuple[bytes, Template]], view: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    return [(name, _header_value(template(view))) for name, template in headers]


def _header_value(value: Any) -> bytes:
    text = "" if value is None else value if isinstance(value, str) else _json(value).decode()
    if len(text) > MAX_HEADER_VALUE_BYTES:
        return b""
    return _CONTROLS.sub(" ", text).strip().encode("latin-1", "replace")


def _json(value: Any) -> bytes:
    """Return a value as JSON; as null when it nests deeper than orjson can write, although it can read it."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        return b"null"


def _compile(value: Any) -> Template:
    """Compile JSON with expressions; one that fails yields null, as a durable event must be answered by acceptance."""
    if is_expression(value):
        accessor = compile_accessor(strip_markers(value))

        def evaluate(view: Any) -> Any:
            try:
                return accessor(view)
            except InvalidError:
                return None

        return evaluate
    if isinstance(value, dict) and any(_expressions([value])):
        members = {key: _compile(item) for key, item in value.items()}
        return lambda view: {key: member(view) for key, member in members.items()}
    if isinstance(value, list) and any(_expressions(value)):
        items = [_compile(item) for item in value]
        return lambda view: [item(view) for item in items]
    return lambda _view: value


def _expressions(values: Any) -> list[str]:
    if is_expression(values):
        return [strip_markers(values)]
    members = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    return [program for member in members for program in _expressions(member)]


# For a fetch of an earlier reply of a flow that was deleted, or is not in mode `reply` any more.
DEFAULT_FLOW_RESPONSE: Final = FlowResponse(Respond.model_validate({"mode": "reply"}))
