"""HTTP requests and responses of outbound calls, and the parts of them that errors and results may show.

Limits the number of interim and unsolicited HTTP responses per connection; aiohttp has no such limit.

Source: RFC 9110, sections 10.2.3 (Retry-After) and 5.6.7 (dates, in all three forms).
"""

from __future__ import annotations

import asyncio
import codecs
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from flowhook import limits
from flowhook.attach.limits import MAX_RETRY_AFTER_MS
from flowhook.model import FailedResponse
from runner.interpreter.errors import Kind, TaskFault, error, fault
from runner.interpreter.redaction import Redactor
from runner.outbound.policies import Digest
from runner.outbound.request_bodies import StreamedBody

Body = bytes | StreamedBody | None  # body of a request; a streamed body is read again for each attempt
# interim responses (1xx) that a server may send for one request; up to one more than that may be queued unread
MAX_INTERIM_RESPONSES: Final = 16

_INTERIM: Final = range(100, 200)
_SWITCHING_PROTOCOLS: Final = 101
MAX_LENGTH: Final = 64  # characters; the longest date has 33
# headers that are forwarded to another origin on redirect and shown to flows; any other may be a credential
_HARMLESS: Final = frozenset({"accept", "accept-language", "content-type", "idempotency-key", "user-agent"})
# headers that the client sets itself
_OF_THE_CLIENT: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "transfer-encoding", "traceparent", "tracestate"}
)
_ERRORS_FROM: Final = 300
_LONG_NAME: Final = 16


class TooManyResponsesError(aiohttp.ClientError):
    """A server sent too many interim responses, or responses without a request."""


class ResponseTooLargeError(TaskFault):
    """A response is larger than `limits.MAX_RESULT_BYTES`."""


class LimitedConnector(aiohttp.TCPConnector):
    """A connector that aborts a connection when the server sends more responses than allowed.

    aiohttp reads interim responses in a loop until the final one. A server that sends nothing else would occupy the
    event loop, and aiohttp buffers whatever a server sends on an idle connection.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # private: pyproject.toml pins the versions that have it; another may create connections differently
        made: object = getattr(self, "_factory", None)
        if not isinstance(made, functools.partial) or made.func is not ResponseHandler:
            raise RuntimeError(f"the number of responses can't be limited with aiohttp {aiohttp.__version__}")
        handler: type[ResponseHandler] = _Answers
        self._factory = functools.partial(handler, loop=asyncio.get_running_loop())


class _Answers(ResponseHandler):
    """Counts the parsed responses of one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._interim = 0

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Accept the head of a response, or abort the connection when there are too many."""
        code = data[0].code
        self._interim = self._interim + 1 if code in _INTERIM and code != _SWITCHING_PROTOCOLS else 0
        if self.exception() is not None:
            return
        if self._interim <= MAX_INTERIM_RESPONSES and len(self) <= MAX_INTERIM_RESPONSES:
            super().feed_data(data, size)
            return
        self.set_exception(TooManyResponsesError())
        if self.transport is not None:
            self.transport.abort()


def server_time(date: str | None, now: datetime) -> datetime:
    """Return a server's time from its `Date`: what it asks for by a time is meant by its clock, not by this one's.

    If the field is absent or invalid, that is `now`, the time by the own clock, with its time zone.
    """
    try:
        return now if date is None or len(date) > MAX_LENGTH else _parse_date(date.strip())
    except (ValueError, OverflowError):
        return now


def parse_retry_after(value: str | None, now: datetime) -> int:
    """Return the requested delay in milliseconds from `now` (see `server_time`), at most `MAX_RETRY_AFTER_MS`.

    The `value` is seconds or a date. The delay is 0 if it is absent or invalid, or the date has passed.
    """
    if value is None or len(value) > MAX_LENGTH:
        return 0
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return min(int(value) * 1000, MAX_RETRY_AFTER_MS)
    try:
        return to_delay_ms((_parse_date(value) - now).total_seconds())
    except (ValueError, OverflowError):
        return 0


def requested_delay(headers: Mapping[str, str]) -> int:
    """Return the delay in milliseconds that a response asks for by its headers; 0: none. See `parse_retry_after`."""
    asked = headers.get("Retry-After")
    return 0 if asked is None else parse_retry_after(asked, server_time(headers.get("Date"), datetime.now(UTC)))


def _parse_date(value: str) -> datetime:
    moment = parsedate_to_datetime(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment  # asctime format; HTTP dates are always GMT


def to_delay_ms(seconds: float) -> int:
    """Convert seconds to milliseconds, clamped to [0, `MAX_RETRY_AFTER_MS`]."""
    return round(max(0.0, min(seconds * 1000, MAX_RETRY_AFTER_MS)))


@dataclass(slots=True)
class HttpRequest:
    """A request to send, without credentials that the server has to ask for."""

    method: str  # in upper case
    url: URL
    headers: CIMultiDict[str] = field(repr=False)
    body: Body = field(default=None, repr=False)
    hides_path: bool = False  # whether parts of the URL may be credentials, see `public_url`
    follow: bool = False  # whether redirects are followed
    account: Digest | None = field(default=None, repr=False)  # answers the challenges of the URL's origin

    def with_headers(self, **added: str) -> HttpRequest:
        return replace(self, headers=CIMultiDict(self.headers, **added))

    def shown_url(self) -> str:
        return public_url(self.url, hide_path=self.hides_path)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A server's response."""

    status: int
    reason: str
    headers: CIMultiDictProxy[str]  # by case-insensitive name; fields repeat
    body: bytes  # decompressed, at most `limits.MAX_RESULT_BYTES`
    url: str  # of the last request (after redirects), as `public_url` shows it
    sent: Mapping[str, str]  # harmless headers of that request, by lower-case name
    retry_after_ms: int = 0  # delay that the server asks for (`Retry-After`)
    # values of that request's other headers, any of which may be a credential
    credentials: tuple[str, ...] = field(default=(), repr=False)


async def read_response(response: aiohttp.ClientResponse, request: HttpRequest) -> HttpResponse:
    """Read the body of an aiohttp response and return the whole as an `HttpResponse`.

    Raises:
        TaskFault: the body is too large (communication).
    """
    body = await _read_body(response, request.shown_url())
    sent, reason = response.request_info.headers, response.reason or ""
    return make_response(request, response.status, reason, response.headers, body, sent)


def make_response(  # noqa: PLR0917 - the parts of a response
    request: HttpRequest,
    status: int,
    reason: str,
    headers: CIMultiDictProxy[str],
    body: bytes,
    sent: Mapping[str, str],
) -> HttpResponse:
    """Return the response to a request that was sent with the headers `sent`."""
    credentials: tuple[str, ...] = ()
    if status >= _ERRORS_FROM:
        credentials = (*_credentials(sent), *(_parts(request.url) if request.hides_path else ()))
    return HttpResponse(
        status,
        reason,
        headers,
        body,
        request.shown_url(),
        {name.lower(): value for name, value in sent.items() if is_harmless(name)},
        requested_delay(headers),
        credentials,
    )


def _credentials(headers: Mapping[str, str]) -> Iterator[str]:
    for name, value in headers.items():
        if not is_harmless(name) and name.lower() not in _OF_THE_CLIENT:
            yield value
            yield value.partition(" ")[2]  # the part after the name of an authentication scheme


def _parts(url: URL) -> Iterator[str]:
    """Yield the parts of a URL that may be credentials; path segments count only if they are long."""
    yield from (url.raw_path_qs, url.path_qs, url.raw_query_string, url.query_string, *url.query.values())
    yield from (part for part in url.parts if len(part) >= _LONG_NAME)


async def _read_body(response: aiohttp.ClientResponse, shown_url: str) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > limits.MAX_RESULT_BYTES:
            response.close()
            detail = f"{shown_url}: the response is larger than {limits.MAX_RESULT_BYTES} bytes"
            raise ResponseTooLargeError(error(Kind.COMMUNICATION, detail))
        parts.append(part)
    return b"".join(parts)


def refusal(response: HttpResponse, method: str, *, prefix: str = "") -> TaskFault:
    """Return the fault for a request whose response has a status that means failure."""
    said = f"{prefix}{method} {response.url} answered {response.status} {response.reason}".rstrip()
    return response_fault(response, Kind.COMMUNICATION, said)


def response_fault(response: HttpResponse, kind: Kind, detail: str, *, retry_after_ms: int = 0) -> TaskFault:
    """Return the fault for a call whose response means failure, with the response in it.

    Its status is the response's if that is an error status; `retry_after_ms` counts unless the response gives one.
    """
    # decode leniently: a cut in the middle of a character must not hide the beginning of a secret from redaction
    text, _ = codecs.utf_8_decode(response.body[: limits.MAX_ERROR_BODY_BYTES], "replace")
    body = text.encode()[: limits.MAX_ERROR_BODY_BYTES].decode(errors="ignore")
    body = Redactor(response.credentials).redact_beginning(body)
    return fault(
        kind,
        detail,
        status=response.status,
        retry_after_ms=response.retry_after_ms or retry_after_ms,
        response=FailedResponse(response.status, response.url, body, len(response.body)),
    )


def public_url(url: URL, *, hide_path: bool = False) -> str:
    """Return a URL as errors and results may show it: without credentials, query and fragment.

    The path is omitted, too, for flows that have secrets (`hide_path`), because chat services put credentials into it.
    """
    if hide_path and url.host:
        return str(url.origin())
    return str(url.with_user(None).with_query(None).with_fragment(None)) if url.host else str(url.with_query(None))


def is_harmless(name: str) -> bool:
    """Whether a header of this name can't be a credential."""
    return name.lower() in _HARMLESS
