"""What a `reply` says, as an HTTP answer."""

from __future__ import annotations

import pytest
from support.cases import cases

from flowhook import limits
from flowhook.model import Reply
from runner.components.reply import reply
from runner.interpreter.errors import TaskFault

JSON = ("content-type", b"application/json")
XML = ("content-type", b"text/xml")
COOKIES = (("set-cookie", b"a=1"), ("set-cookie", b"b=2"))
TEXT = ("content-type", b"text/plain; charset=utf-8")


async def made(**arguments):
    return await reply(arguments, None)


async def refused(**arguments):
    with pytest.raises(TaskFault) as caught:
        await made(**arguments)
    assert caught.value.error.type.endswith("/configuration")
    return caught.value.error.detail


@cases(
    ("arguments", "answer"),
    [
        ({}, Reply(200, (), b"")),
        ({"body": None}, Reply(200, (), b"")),
        ({"status": 404, "body": "no é"}, Reply(404, (TEXT,), "no é".encode())),
        ({"body": {"a": [1, None]}}, Reply(200, (JSON,), b'{"a":[1,null]}')),
        ({"body": False}, Reply(200, (JSON,), b"false")),
        ({"body": "<a/>", "headers": {"Content-Type": "text/xml"}}, Reply(200, (XML,), b"<a/>")),
        ({"headers": {"X-N": 7, "Set-Cookie": ["a=1", "b=2"]}}, Reply(200, (("x-n", b"7"), *COOKIES), b"")),
    ],
)  # fmt: skip
async def test_an_answer_is_what_the_task_says(arguments, answer):
    assert await made(**arguments) == answer


@cases("status", [199, 600, 100, "200", True, 200.5])
async def test_a_status_is_a_number_that_ends_a_request(status):
    assert "with.status" in await refused(status=status)


@cases(
    "headers",
    [
        {"X-A": "a\r\nX-B: b"},
        {"X-A": "a\nb"},
        {"X-A": ["fine", "a\rb"]},
        {"X-A": "\x00"},
        {"X-A": "é"},
        {"X-A": None},
        {"X-A": {"b": 1}},
        {"X A": "a"},
        {"X-A\r\n": "a"},
        {"": "a"},
        {"Transfer-Encoding": "chunked"},
        {"connection": "close"},
        {"Content-Length": "1"},
        {f"X-{n}": "a" for n in range(65)},
        {"X-A": "a" * 16 * limits.KIB},
    ],
)
async def test_headers_that_could_break_the_answer_are_refused(headers):
    assert "header" in await refused(headers=headers)


async def test_a_body_is_bounded():
    assert len((await made(body="a" * limits.MAX_RESULT_BYTES)).body) == limits.MAX_RESULT_BYTES
    assert "bytes" in await refused(body="a" * (limits.MAX_RESULT_BYTES + 1))


async def test_unknown_arguments_are_refused_without_their_values():
    detail = await refused(code="hunter2")
    assert "with.code" in detail
    assert "hunter2" not in detail
