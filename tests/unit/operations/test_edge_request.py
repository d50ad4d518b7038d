"""Requests as shell commands: nothing of them is evaluated."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowhook.client import SignedRequest
from operations.edges import MAX_ARGUMENT, curl_line

REQUEST = SignedRequest("POST", "https://h/hook/a", (("x-a", b"1"),), b"{}", "github", "k", None, None)


def changed(**fields):
    values = {name: getattr(REQUEST, name) for name in SignedRequest.__slots__}
    return SignedRequest(**values | fields)


@settings(deadline=None)  # machines that run tests stall; it says nothing about the code
@given(st.text().filter(lambda text: "\x00" not in text and text.isprintable()), st.text(min_size=1))
def test_a_shell_reads_back_every_argument(value, body):
    try:
        content = body.encode()
    except UnicodeEncodeError:
        return
    arguments = shlex.split(curl_line(changed(headers=(("x-a", value.encode()),), body=content)))
    assert arguments[0] == "curl"
    assert (f"x-a: {value}" if value else "x-a;") in arguments
    if "\x00" not in body:
        assert arguments[arguments.index("--data-raw") + 1] == body


@pytest.mark.parametrize("body", [b"\xff", b"a\x00b", b"x" * (MAX_ARGUMENT + 1)])
def test_a_body_that_is_no_argument_is_read_from_a_file(body):
    assert "--data-binary @body" in curl_line(changed(body=body))


@pytest.mark.parametrize(
    ("credential", "expected"),
    [
        (("header", "X-Api-Key"), ["--header", "X-Api-Key: $SECRET"]),
        (("basic", "o'brien"), ["--user", "o'brien:$SECRET"]),
        (("query", "the key"), ["https://h/hook/a?the%20key=$SECRET"]),
    ],
)
def test_a_secret_is_a_variable_of_the_shell(credential, expected):
    line = curl_line(changed(credential=credential))
    assert '"$SECRET"' in line
    assert all(argument in shlex.split(line) for argument in expected)


def test_curl_does_not_say_that_a_body_without_a_type_is_a_form():
    assert "--header content-type:" in curl_line(REQUEST)
    assert "content-type:" not in curl_line(changed(headers=(), body=b""))
