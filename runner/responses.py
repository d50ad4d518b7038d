"""What a server answered, and what of it, and of what it was asked, may be shown."""

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
from runner.interpreter.redaction import redact_beginning
from runner.retry_after import parse_retry_after

_HARMLESS: Final = frozenset({"accept", "accept-language", "content-type", "idempotency-key", "user-agent"})
"""Headers that other origins get after a redirect, and that a response shows; any other one may be a credential."""
_OF_THE_CLIENT: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "transfer-encoding", "traceparent"}
)
"""Headers that the client sets itself."""
_ERRORS_FROM: Final = 300
_LONG_NAME: Final = 16


@dataclass(frozen=True, slots=True)
class Response:
    """What a server answered.

    Attributes:
        headers: by case-insensitive name; fields repeat.
        body: decompressed, at most `limits.MAX_RESULT_BYTES`.
        url: that was asked in the end, as `public_url` shows it.
        sent: headers of that request by lower-case name, as far as they can't be credentials.
        retry_after_ms: how long the server asks to be left alone (`Retry-After`).
        credentials: values of that request's other headers, of which any may be one.
    """

    status: int
    reason: str
    headers: CIMultiDictProxy[str]
    body: bytes
    url: str
    sent: Mapping[str, str]
    retry_after_ms: int = 0
    credentials: tuple[str, ...] = field(default=(), repr=False)


async def read(answer: aiohttp.ClientResponse, shown_url: str, *, hidden: URL | None = None) -> Response:
    """Return an answer whose body has not been read yet.

    Args:
        answer: to a request.
        shown_url: what may be shown of the URL that was asked.
        hidden: that URL, where its parts may be credentials.

    Raises:
        TaskFault: the body is too large (communication).
    """
    content = await _read_body(answer, shown_url)
    sent = {name.lower(): value for name, value in answer.request_info.headers.items() if is_harmless(name)}
    wait = parse_retry_after(answer.headers.get("Retry-After"), datetime.now(UTC))
    credentials: tuple[str, ...] = ()
    if answer.status >= _ERRORS_FROM:
        credentials = (*_credentials(answer.request_info.headers), *(() if hidden is None else _parts(hidden)))
    return Response(answer.status, answer.reason or "", answer.headers, content, shown_url, sent, wait, credentials)


def _credentials(headers: CIMultiDictProxy[str]) -> Iterator[str]:
    for name, value in headers.items():
        if not is_harmless(name) and name.lower() not in _OF_THE_CLIENT:
            yield value
            yield value.partition(" ")[2]  # behind the name of a scheme


def _parts(url: URL) -> Iterator[str]:
    """Yield what of a URL may be a credential; the names that paths are made of are short."""
    yield from (url.raw_path_qs, url.path_qs, url.raw_query_string, url.query_string, *url.query.values())
    yield from (part for part in url.parts if len(part) >= _LONG_NAME)


async def _read_body(answer: aiohttp.ClientResponse, shown_url: str) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > limits.MAX_RESULT_BYTES:
            answer.close()
            raise fault(Kind.COMMUNICATION, f"{shown_url}: the answer is larger than {limits.MAX_RESULT_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def failure(response: Response, kind: Kind, detail: str, *, retry_after_ms: int = 0) -> TaskFault:
    """Return the fault of a call that was answered so, with what was answered.

    Args:
        response: the answer.
        kind: of the error; its status is that of the answer if that is one of an error.
        detail: what happened.
        retry_after_ms: how long to wait, if the answer does not say so itself.
    """
    # what is cut off in the middle of a character must not hide the beginning of a secret
    text, _ = codecs.utf_8_decode(response.body[: limits.MAX_ERROR_BODY_BYTES], "replace")
    body = redact_beginning(text.encode()[: limits.MAX_ERROR_BODY_BYTES].decode(errors="ignore"), response.credentials)
    return fault(
        kind,
        detail,
        status=response.status,
        retry_after_ms=response.retry_after_ms or retry_after_ms,
        response=FailedResponse(response.status, response.url, body, len(response.body)),
    )


def public_url(url: URL, *, discreet: bool = False) -> str:
    """Return a URL as errors and results may show it: without credentials, query and fragment.

    Args:
        url: to be shown.
        discreet: without the path, too: for flows that have secrets, since messengers take it for a credential.
    """
    if discreet and url.host:
        return str(url.origin())
    return str(url.with_user(None).with_query(None).with_fragment(None)) if url.host else str(url.with_query(None))


def is_harmless(name: str) -> bool:
    """Whether a header of this name can't be a credential."""
    return name.lower() in _HARMLESS
