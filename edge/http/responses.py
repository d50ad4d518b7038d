"""HTTP responses as bytes that are ready to be written.

A response lacks only the parts that depend on the connection: Date, Connection, and the empty line. `connection` adds
them.

Source: RFC 9110; problem details: RFC 9457, whose section 3.1.1 defines `type`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

import orjson

# The same text for every failed check: only the operator learns which check failed.
UNAUTHENTICATED_DETAIL: Final = "The request carries no valid credentials."


class Response(NamedTuple):
    """A response."""

    status: int  # HTTP status code
    head: bytes  # status line and header fields, each with its CRLF, without the empty line
    body: bytes  # content, exactly as long as Content-Length says
    reason: str = ""  # stable cause of a refusal, or empty
    close: bool = False  # whether the connection must not be used again


def status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {reason_phrase(status)}\r\n".encode("ascii")


def reason_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def has_no_content(status: int) -> bool:
    """Whether a response of this status carries neither content nor Content-Length (RFC 9110, section 8.6)."""
    return status < HTTPStatus.OK or status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


def build_response(
    status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes, *, reason: str = "", close: bool = False
) -> Response:
    """Return a response with Content-Length, without a body where none is allowed; no header has CR or LF."""
    lines = [status_line(status)]
    lines += [name + b": " + value + b"\r\n" for name, value in headers]
    if has_no_content(status):
        body = b""
    else:
        lines.append(b"Content-Length: %d\r\n" % len(body))
    return Response(status, b"".join(lines), body, reason, close)


def problem(
    status: int,
    reason: str,
    detail: str,
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    retry_after: int = 0,
    close: bool = False,
    execution_id: str = "",
    errors: Sequence[Mapping[str, str]] = (),
) -> Response:
    """Return a refusal as `application/problem+json`.

    `detail` is the same for all requests refused for a reason; `retry_after` is in seconds, 0: a retry is pointless.
    `errors` are causes, each with its `detail` and a JSON Pointer, as in section 3 of RFC 9457.
    """
    members: dict[str, object] = {
        "type": "about:blank",
        "title": reason_phrase(status),
        "status": status,
        "reason": reason,
        "detail": detail,
    }
    if execution_id:
        members["execution"] = execution_id
    if errors:
        members["errors"] = errors
    body = bytes(memoryview(orjson.dumps(members)))  # many are kept, and what orjson returns holds 4 KiB
    fields = list(headers)
    if all(name.lower() != b"content-type" for name, _ in fields):
        fields.insert(0, (b"Content-Type", b"application/problem+json"))
    if retry_after:
        fields.append((b"Retry-After", b"%d" % retry_after))
    return build_response(status, fields, body, reason=reason, close=close)


_BLANK: Final = b'{"type":"about:blank",'
_LENGTH: Final = b"Content-Length: %d\r\n"


class ProblemTypes:
    """Gives refusals the URL of the documentation as their `type`, if an edge knows where senders can read that."""

    def __init__(self, docs_url: str) -> None:
        """Use `docs_url`, below which the page `http` has an anchor for each reason; empty: problems have no type."""
        self._page = f"{docs_url.rstrip('/')}/http".encode() if docs_url else b""
        self.of = lru_cache(512)(self._of) if docs_url else lambda response: response

    def _of(self, response: Response) -> Response:
        """Return a response with its type, if it is a problem."""
        body = response.body
        if not body.startswith(_BLANK):
            return response
        kind = b'{"type":"%b#%b",' % (self._page, response.reason.lower().encode())
        typed = kind + body[len(_BLANK) :]
        head = response.head.replace(_LENGTH % len(body), _LENGTH % len(typed), 1)
        return response._replace(head=head, body=typed)


FLOW_NOT_FOUND: Final = problem(404, "FLOW_NOT_FOUND", "There is nothing at this URL.")
ADDRESS_FORBIDDEN: Final = problem(403, "ADDRESS_FORBIDDEN", "Requests from this address are not accepted.")
UNAUTHENTICATED: Final = problem(401, "UNAUTHENTICATED", UNAUTHENTICATED_DETAIL)
BODY_TOO_LARGE: Final = problem(413, "BODY_TOO_LARGE", "The body is larger than this URL accepts.", close=True)
BODY_INVALID: Final = problem(400, "BODY_INVALID", "The body is not what its Content-Type says.")
REQUEST_TIMEOUT: Final = problem(408, "REQUEST_TIMEOUT", "The request took too long to arrive.", close=True)
INTERNAL: Final = problem(500, "INTERNAL", "The request could not be handled.", close=True)
OVERLOADED: Final = problem(503, "OVERLOADED", "Too much is going on. Try again later.", retry_after=1)
TOO_MANY_CONNECTIONS: Final = problem(
    503, "TOO_MANY_CONNECTIONS", "Too many connections are open. Try again later.", retry_after=1, close=True
)
ROUTER_UNAVAILABLE: Final = problem(
    503, "ROUTER_UNAVAILABLE", "The request can't be stored now. Try again later.", retry_after=1
)
KEYS_UNAVAILABLE: Final = problem(
    503, "KEYS_UNAVAILABLE", "The request can't be verified now. Try again later.", retry_after=10
)
HANDSHAKE_UNAVAILABLE: Final = problem(
    503, "HANDSHAKE_UNAVAILABLE", "The handshake can't be completed now. Try again later.", retry_after=10
)
_UNDECIDED: Final = "It can't be decided whether this URL accepts the request. Try again later."
FILTER_FAILED: Final = problem(503, "FILTER_FAILED", _UNDECIDED, retry_after=60)
ACCEPT_TOO_COSTLY: Final = problem(503, "ACCEPT_TOO_COSTLY", _UNDECIDED, retry_after=60)
TOO_MANY_HELD: Final = problem(
    503, "TOO_MANY_HELD", "Too many requests wait for an answer. Try again later.", retry_after=1
)
SHARE_HELD: Final = problem(
    429, "TOO_MANY_HELD", "Too many of these requests wait for an answer. Send fewer at a time.", retry_after=1
)
REPLY_NOT_FOUND: Final = problem(404, "REPLY_NOT_FOUND", "There is no such reply.")
CALLBACK_NOT_FOUND: Final = problem(404, "CALLBACK_NOT_FOUND", "There is nothing at this URL.")
CALLBACK_GONE: Final = problem(410, "CALLBACK_GONE", "This URL was used, or is no longer waited for.")
CALLBACK_AMBIGUOUS: Final = problem(
    409, "CALLBACK_AMBIGUOUS", "Several executions wait for this, and nothing tells which one is meant."
)
CALLBACK_TOO_LARGE: Final = problem(413, "CALLBACK_TOO_LARGE", "The request is larger than this URL accepts.")
NOT_STORED: Final = problem(500, "NOT_STORED", "The event could not be stored.")
FLOW_FOUND: Final = build_response(200, (), b"")
_WORD: Final = ((b"Content-Type", b"text/plain; charset=utf-8"), (b"Cache-Control", b"no-store"))
ALIVE: Final = build_response(200, _WORD, b"ok\n")
READY: Final = build_response(200, _WORD, b"ready\n")
UNREADY: Final = build_response(503, _WORD, b"unready\n")
FLOW_FAULTED: Final = "FLOW_FAULTED"

_MALFORMED_DETAILS: Final = {
    400: "The request is malformed.",
    417: "The expectation can't be met.",
    431: "The header fields are too large.",
    501: "The transfer coding is not supported.",
    505: "The HTTP version is not supported.",
}


def malformed_request(status: int, reason: str) -> Response:
    return problem(status, reason, _MALFORMED_DETAILS.get(status, "The request is malformed."), close=True)


@lru_cache(256)
def method_not_allowed(methods: tuple[str, ...]) -> Response:
    allow = ", ".join(sorted({*methods, "HEAD"})).encode("ascii")
    return problem(405, "METHOD_NOT_ALLOWED", "The method is not allowed here.", headers=[(b"Allow", allow)])


@lru_cache(256)
def flow_rate_limited(reason: str, retry_after: int) -> Response:
    return problem(429, reason, "This URL takes no more requests for now.", retry_after=retry_after)


@lru_cache(256)
def body_invalid(cause: str) -> Response:
    """Return the 400 for a body that does not match its headers; `cause`, by which it is cached, is a fixed text."""
    return problem(400, "BODY_INVALID", f"{cause[:1].upper()}{cause[1:]}.")


@lru_cache(256)
def sender_rate_limited(retry_after: int) -> Response:
    detail = "This URL takes no more requests from this sender for now."
    return problem(429, "SENDER_RATE_LIMITED", detail, retry_after=retry_after)


@lru_cache(256)
def service_unavailable(reason: str, retry_after: int) -> Response:
    return problem(503, reason, "The request can't be stored now. Try again later.", retry_after=retry_after)


def unauthenticated(challenge: str | None) -> Response:
    """Return the 401 of an endpoint, with `WWW-Authenticate` where its scheme has one (RFC 9110, section 11.6.1)."""
    if challenge is None:
        return UNAUTHENTICATED
    return problem(
        401, "UNAUTHENTICATED", UNAUTHENTICATED_DETAIL, headers=[(b"WWW-Authenticate", challenge.encode("latin-1"))]
    )


def reply_pending(execution_id: str, location: str) -> Response:
    """Return the 202 of a flow that has not responded yet: its execution's ID, and the URL of the later response."""
    return build_response(
        202,
        [
            (b"Content-Type", b"application/json"),
            (b"Location", location.encode("latin-1")),
            (b"Retry-After", b"2"),
            (b"Cache-Control", b"no-store"),
        ],
        orjson.dumps({"id": execution_id}),
    )
