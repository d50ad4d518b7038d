"""Reasons are what senders' programs branch on: they stay what they are."""

from __future__ import annotations

import orjson
import pytest
from support.cases import cases

from edge.http import responses

REFUSALS = [
    (responses.FLOW_NOT_FOUND, 404, "FLOW_NOT_FOUND"),
    (responses.ADDRESS_FORBIDDEN, 403, "ADDRESS_FORBIDDEN"),
    (responses.UNAUTHENTICATED, 401, "UNAUTHENTICATED"),
    (responses.unauthenticated('Basic realm="x"'), 401, "UNAUTHENTICATED"),
    (responses.method_not_allowed(("PUT", "POST")), 405, "METHOD_NOT_ALLOWED"),
    (responses.BODY_TOO_LARGE, 413, "BODY_TOO_LARGE"),
    (responses.BODY_INVALID, 400, "BODY_INVALID"),
    (responses.REQUEST_TIMEOUT, 408, "REQUEST_TIMEOUT"),
    (responses.INTERNAL, 500, "INTERNAL"),
    (responses.NOT_STORED, 500, "NOT_STORED"),
    (responses.OVERLOADED, 503, "OVERLOADED"),
    (responses.TOO_MANY_CONNECTIONS, 503, "TOO_MANY_CONNECTIONS"),
    (responses.ROUTER_UNAVAILABLE, 503, "ROUTER_UNAVAILABLE"),
    (responses.flow_rate_limited("RATE_LIMITED", 3), 429, "RATE_LIMITED"),
    (responses.flow_rate_limited("BACKLOG_FULL", 3), 429, "BACKLOG_FULL"),
    (responses.service_unavailable("STORAGE_FULL", 3), 503, "STORAGE_FULL"),
    *(
        (responses.malformed_request(status, reason), status, reason)
        for status, reason in [
            (400, "REQUEST_MALFORMED"),
            (400, "HEADER_MALFORMED"),
            (400, "HOST_INVALID"),
            (400, "FRAMING_INVALID"),
            (417, "EXPECTATION_UNKNOWN"),
            (431, "HEADER_TOO_LARGE"),
            (501, "TRANSFER_CODING_UNKNOWN"),
            (505, "HTTP_VERSION_UNSUPPORTED"),
        ]
    ),
]


def fields(answer):
    start, *lines = answer.head.decode().removesuffix("\r\n").split("\r\n")
    return start, dict(line.split(": ", 1) for line in lines)


@cases(("answer", "status", "reason"), REFUSALS, ids=lambda value: str(value)[:30])
def test_every_refusal_is_a_problem_with_a_stable_reason(answer, status, reason):
    start, headers = fields(answer)
    problem = orjson.loads(answer.body)
    assert (answer.status, answer.reason) == (problem["status"], problem["reason"]) == (status, reason)
    assert start == f"HTTP/1.1 {status} {problem['title']}"
    assert problem["detail"].endswith(".")
    assert headers["Content-Type"] == "application/problem+json"
    assert int(headers["Content-Length"]) == len(answer.body)
    assert ("Retry-After" in headers) is (status in (429, 503))


def test_whoever_lacks_credentials_gets_the_same_body_whatever_the_scheme():
    assert len({answer.body for answer, status, _ in REFUSALS if status == 401}) == 1


def test_a_connection_that_can_not_be_trusted_any_more_is_closed():
    closing = {reason for answer, _, reason in REFUSALS if answer.close}
    malformed = {reason for _, _, reason in REFUSALS[-8:]}
    assert closing == {"BODY_TOO_LARGE", "REQUEST_TIMEOUT", "INTERNAL", "TOO_MANY_CONNECTIONS"} | malformed


@pytest.mark.parametrize(("status", "length"), [(200, True), (204, False), (205, True), (304, False), (599, True)])
def test_a_status_without_content_has_no_length(status, length):
    answer = responses.build_response(status, [], b"body")
    assert (b"Content-Length" in answer.head, bool(answer.body)) == (length, length)
