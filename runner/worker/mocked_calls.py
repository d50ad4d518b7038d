"""Answers the calls of a flow that is tested, in place of what they call.

A mock with `output` or `error` is the result of the function; any other is the response to an HTTP request, so that
arguments, status and body are treated as those of a real call. Of the mocks that fit, a call gets the first one that
was not used yet; when all were used, the last one.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import attrs
import orjson
from multidict import CIMultiDict, CIMultiDictProxy
from typing_extensions import override

from runner import ipc
from runner.interpreter import json_codec
from runner.interpreter.effects import RUN_WORKFLOW, EffectResult, Perform
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.interpreter.redaction import Redactor
from runner.outbound.http_client import HttpClient
from runner.outbound.http_response import HttpRequest, HttpResponse, make_response

# functions that do not use the HTTP client, or hold its responses open: the whole call is mocked
_WITHOUT_HTTP: Final = frozenset(
    {"asyncapi", "asyncapi.subscribe", "email.send", "grpc", "mcp", "run.script", "run.shell", RUN_WORKFLOW}
)
_OPERATION: Final = ("operationId", "operation", "method", "flow")  # arguments that name an operation
_REASONS: Final = {int(status): status.phrase for status in HTTPStatus}
_REQUEST: Final = re.compile("[A-Z]+ ")


class UnansweredCallError(Exception):
    """No mock answers a call; the message says what to write."""


@attrs.define(eq=False, repr=False)
class _Call:
    """A call that is being made."""

    instance: str  # JSON Pointer of the task
    unanswered: UnansweredCallError | None = None  # why the function could not be performed


_CALL: Final[ContextVar[_Call]] = ContextVar("call")


class MockedCalls:
    """The mocks of one run. `report` is called for each call that one of them answers.

    `ended` takes the results of other flows, by the ID of their execution.
    """

    def __init__(
        self,
        mocks: Sequence[ipc.CallMock],
        redactor: Redactor,
        report: Callable[[ipc.CallMocked], None],
        ended: dict[str, EffectResult],
    ) -> None:
        self._mocks, self._redactor, self._report, self._ended = mocks, redactor, report, ended
        self._used: set[int] = set()

    async def perform(self, effect: Perform, really: Callable[[], Awaitable[EffectResult]]) -> EffectResult:
        """Return the result of a call: that of a mock, or what the function makes of mocked responses.

        Raises:
            UnansweredCallError: none of the mocks fits.
        """
        _CALL.set(call := _Call(effect.instance))
        given = effect.arguments
        operation = next((given[key] for key in _OPERATION if isinstance(given.get(key), str)), "")
        names = (effect.function, f"{effect.function} {operation}".rstrip())
        # of a task, responses and results may follow each other
        fitting = [each for each in self._fitting(effect.instance, names) if not _REQUEST.match(self._mocks[each].call)]
        index = next((each for each in fitting if each not in self._used), None)
        if effect.function in _WITHOUT_HTTP:
            call.unanswered = _unanswered(names[1], effect.instance, '"output": {}')
        elif index is None or not _is_result(self._mocks[index]):
            result = await really()
            if call.unanswered is None:
                return result
        results = [each for each in fitting if _is_result(self._mocks[each])]
        if not results:
            raise call.unanswered or AssertionError("unreachable")
        mock = self._use(results, given)
        result = EffectResult(mock.output, mock.error and TaskFault(mock.error).at(effect.instance).error)
        if effect.function != RUN_WORKFLOW:
            return result
        execution = f"mock-{effect.key}"
        self._ended[execution] = result
        return EffectResult(orjson.dumps({"execution": execution}))

    def respond(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request; TaskFault: the mock is an error."""
        sent: Any = None
        if isinstance(request.body, bytes):
            try:
                sent = orjson.loads(request.body)
            except orjson.JSONDecodeError:
                sent = request.body.decode(errors="replace")
        names = tuple(f"{request.method} {url}" for url in (request.url, request.url.with_query(None)))
        fitting = self._fitting(_CALL.get().instance, names)
        # the error of a task is that of its function, and no response
        responses = [each for each in fitting if not _is_result(self._mocks[each])]
        if not responses:
            raise self.unanswered_request(request)
        mock = self._use(responses, sent)
        if mock.error is not None:
            raise TaskFault(mock.error)
        given = CIMultiDictProxy(CIMultiDict(mock.headers))
        return make_response(request, mock.status, _REASONS.get(mock.status, ""), given, mock.body, request.headers)

    def unanswered_request(self, request: HttpRequest) -> TaskFault:
        """Return what ends the function; `perform` then sees that it is because of the mocks."""
        call = _CALL.get()
        call.unanswered = _unanswered(
            f"{request.method} {request.shown_url()}", call.instance, '"status": 200, "body": {}'
        )
        return fault(Kind.CONFIGURATION, str(call.unanswered))

    def _fitting(self, instance: str, names: Sequence[str]) -> list[int]:
        return [
            index
            for index, mock in enumerate(self._mocks)
            if mock.task in ("", instance, _name(instance))
            and (not mock.call or any(map(_pattern(mock.call).fullmatch, names)))
        ]

    def _use(self, fitting: Sequence[int], sent: Any) -> ipc.CallMock:
        """Return the first one that was not used, else the last one."""
        index = next((each for each in fitting if each not in self._used), fitting[-1])
        self._used.add(index)
        self._report(ipc.CallMocked(index, json_codec.encode(self._redactor.redact_values(sent))))
        return self._mocks[index]


def _is_result(mock: ipc.CallMock) -> bool:
    """Whether a mock is the result of a function; false: it is the response to a request, or the error of one."""
    return mock.output is not None or (mock.error is not None and not _REQUEST.match(mock.call))


def _pattern(call: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, call.split("*"))))


def _name(instance: str) -> str:
    return instance.rpartition("/")[2]


def _unanswered(call: str, instance: str, answer: str) -> UnansweredCallError:
    task = orjson.dumps(_name(instance)).decode()
    return UnansweredCallError(
        f'no mock answers {call}, which {instance} makes: add {{"task": {task}, {answer}}} to "calls"'
    )


@attrs.define(eq=False, repr=False, kw_only=True)
class MockedHttpClient(HttpClient):
    """An HTTP client whose responses are mocks."""

    _mocks: MockedCalls

    @override
    async def send(self, request: HttpRequest) -> HttpResponse:
        return self._mocks.respond(request)

    @override
    async def open(self, request: HttpRequest) -> aiohttp.ClientResponse:
        raise self._mocks.unanswered_request(request)

    @override
    async def open_websocket(self, request: HttpRequest) -> aiohttp.ClientWebSocketResponse:
        raise self._mocks.unanswered_request(request)
