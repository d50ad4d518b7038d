"""Bodies are indented as what they are, and shown as they are otherwise."""

from __future__ import annotations

from support.cases import cases

from admin.console.body_view import body_view, hexdump


@cases(
    "body",
    [
        "Order 4711 of Jane Doe\nhas arrived [today], {at noon}",
        "name, amount\nJane Doe, 1 000",
        '{"a": 1}\n{"a": 2}',
        "<p>one<br>two words</p>",
        "{not: json, at all}",
        "hello world",
    ],
)
def test_text_that_is_neither_json_nor_xml_is_shown_as_it_is(body):
    shown = body_view(body.encode())
    assert (shown["pretty"], shown["text"]) == (None, body)


def test_json_and_xml_are_indented():
    assert body_view(b'{"a":1.0,"a":1e400}')["pretty"] == '{\n  "a": 1.0,\n  "a": 1e400\n}'
    assert body_view(b"<a><b>x y</b></a>")["pretty"] == "<a>\n  <b>x y</b>\n</a>"


def test_bytes_are_shown_as_xxd_does():
    assert hexdump(b"POST / \xff\x00 0123456789") == (
        "00000000  50 4f 53 54 20 2f 20 ff 00 20 30 31 32 33 34 35  POST / .. 012345\n"
        "00000010  36 37 38 39                                      6789"
    )


def test_nothing_is_nothing():
    assert hexdump(b"") == ""
