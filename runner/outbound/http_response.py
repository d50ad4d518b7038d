"""HTTP responses of outbound calls, and the parts of response and request that errors and results may show."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from flowhook import limits
from flowhook.model import FailedResponse
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.interpreter.redaction import Redactor
from runner.outbound.retry_after import parse_retry_after, server_time

_HARMLESS: Final = frozenset({"accept", "accept-language", "content-type", "idempotency-key", "user-agent"})
"""Headers that are forwarded to another origin on redirect and shown to flows; any other may be a credential."""
_OF_THE_CLIENT: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "transfer-encoding", "traceparent"}
)
"""Headers that the client sets itself."""
_ERRORS_FROM: Final = 300
_LONG_NAME: Final = 16


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A server's response.

    Attributes:
        headers: by case-insensitive name; fields repeat.
        body: decompressed, at most `limits.MAX_RESULT_BYTES`.
        url: of the last request (after redirects), as `public_url` shows it.
        sent: harmless headers of that request, by lower-case name.
        retry_after_ms: delay that the server asks for (`Retry-After`).
        credentials: values of that request's other headers, any of which may be a credential.
    """

    status: int
    reason: str
    headers: CIMultiDictProxy[str]
    body: bytes
    url: str
    sent: Mapping[str, str]
    retry_after_ms: int = 0
    credentials: tuple[str, ...] = field(default=(), repr=False)


async def read_response(response: aiohttp.ClientResponse, shown_url: str, *, hidden: URL | None = None) -> HttpResponse:
    """Read the body of an aiohttp response and return the whole as an `HttpResponse`.

    `shown_url` is the requested URL as it may be shown; `hidden` the URL itself, if its parts may be credentials.

    Raises:
        TaskFault: the body is too large (communication).
    """
    body = await _read_body(response, shown_url)
    sent = {name.lower(): value for name, value in response.request_info.headers.items() if is_harmless(name)}
    now = server_time(response.headers.get("Date"), datetime.now(UTC))
    wait = parse_retry_after(response.headers.get("Retry-After"), now)
    credentials: tuple[str, ...] = ()
    if response.status >= _ERRORS_FROM:
        credentials = (*_credentials(response.request_info.headers), *(() if hidden is None else _parts(hidden)))
    return HttpResponse(
        response.status, response.reason or "", response.headers, body, shown_url, sent, wait, credentials
    )


def _credentials(headers: CIMultiDictProxy[str]) -> Iterator[str]:
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
            raise fault(Kind.COMMUNICATION, f"{shown_url}: the response is larger than {limits.MAX_RESULT_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def response_fault(response: HttpResponse, kind: Kind, detail: str, *, retry_after_ms: int = 0) -> TaskFault:
    """Return the fault for a call whose response means failure, with the response in it.

    Args:
        response: the server's.
        kind: of the error; its status is that of the response if that is an error status.
        detail: what happened.
        retry_after_ms: delay before a retry, unless the response gives one.
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
