"""Parts are found where they lie, however the body arrives."""

from __future__ import annotations

from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.errors import InvalidError
from flowhook.payloads import parse
from flowhook.payloads.multipart import MultipartScanner, PartData, PartEnded, PartStarted, sanitize_file_name

BOUNDARY = "b0"


def body_of(parts, epilogue=b""):
    lines = [b"--b0\r\n" + header + b"\r\n" + content + b"\r\n" for header, content in parts]
    return b"".join(lines) + b"--b0--" + epilogue


def form(*fields):
    return body_of(
        (b'Content-Disposition: form-data; name="' + name + b'"' + rest + b"\r\n", value)
        for name, rest, value in fields
    )


def scan(body, pieces):
    """Return what a scanner finds: (start, slice, data as it was handed out)."""
    scanner = MultipartScanner(BOUNDARY)
    events, position = [], 0
    for size in pieces:
        events += scanner.feed(body[position : position + size])
        position += size
    events += scanner.feed(body[position:])
    scanner.end()
    found = []
    for event in events:
        match event:
            case PartStarted():
                start, data = event, b""
            case PartData():
                data += event.data
            case PartEnded(offset=end):
                found.append((start, body[start.offset : end], data))
    return found


contents = st.lists(
    st.sampled_from([b"\r", b"\n", b"-", b"--b", b"\r\n--b", b"b0", b"x", b"\x00", b"\r\n"]), max_size=8
).map(b"".join)


@given(parts=st.lists(contents, max_size=4), pieces=st.lists(st.integers(1, 12), max_size=60))
def test_contents_are_found_byte_for_byte_in_any_pieces(parts, pieces):
    parts = [content for content in parts if b"\r\n--b0" not in b"\r\n" + content]
    found = scan(body_of((b"X: y\r\n", content) for content in parts), pieces)
    assert [content for _, content, _ in found] == parts
    assert [data for _, _, data in found] == parts


@given(parts=st.lists(st.binary(max_size=30), min_size=1, max_size=3))
def test_what_the_standard_library_writes_is_read(parts):
    message = EmailMessage()
    message.make_mixed()
    for index, content in enumerate(parts):
        message.add_attachment(content, maintype="application", subtype="x", filename=f"{index}.bin", cte="8bit")
    message.set_boundary("b0")
    head, _, _ = message.as_bytes().partition(b"\n\n")
    assert b"multipart/mixed" in head
    body = b"".join(
        b"--b0\r\nContent-Type: application/x\r\nContent-Disposition: attachment; filename=%d.bin\r\n\r\n%b\r\n"
        % (index, content)
        for index, content in enumerate(parts)
    )
    content = parse('multipart/mixed; boundary="b0"', body + b"--b0--\r\n", (), limit=10_000)
    assert [(each.name, each.content) for each in content.attachments] == [
        (f"{index}.bin", part) for index, part in enumerate(parts)
    ]


def test_fields_become_an_object_and_files_attachments():
    body = form(
        (b"a", b"", b"1"),
        (b"b[c]", b"", "é".encode()),
        (b"a", b"", b"2"),
        (b"doc", b'; filename="../../etc/pass\x00wd"\r\nContent-Type: text/plain', b"file"),
        (b"doc", b'; filename="../../etc/pass\x00wd"\r\nContent-Type: text/plain', b"another"),
        (b"meta", b"\r\nContent-Type: application/json", b'{"x": 1}'),
        (b"blob", b"\r\nContent-Type: application/octet-stream", b"\xff"),
    )
    content = parse("multipart/form-data; boundary=b0", body, (), limit=10_000)
    assert content.body == {"a": ["1", "2"], "b": {"c": "é"}, "meta": {"x": 1}}
    assert [(each.name, each.field, each.type, each.content) for each in content.attachments] == [
        ("passwd", "doc", "text/plain", b"file"),
        ("passwd", "doc", "text/plain", b"another"),
        ("blob", "blob", "application/octet-stream", b"\xff"),
    ]


def test_a_file_name_in_another_alphabet_is_read():
    body = form((b"f", b"; filename*=UTF-8''%C3%A9.txt", b"x"))
    assert parse("multipart/form-data; boundary=b0", body, (), limit=10_000).attachments[0].name == "é.txt"


@cases(
    ("given_name", "name"),
    [
        ("a.txt", "a.txt"),
        ("C:\\x\\a.txt", "a.txt"),
        ("/", "file"),
        ("..", "file"),
        ("a/..", "file"),
        ("x" * 300, "x" * 255),
    ],
)
def test_of_a_file_name_only_the_name_is_retained(given_name, name):
    assert sanitize_file_name(given_name) == name


@cases(
    "body",
    [
        b"--b0\r\n",
        b"--b0\r\n\r\nwithout end",
        b"--b0\r\n\r\nx\r\n--b0",
        b"--b0x\r\n\r\nx\r\n--b0--",
        b"--b0\r\nno colon\r\n\r\nx\r\n--b0--",
        b"--b0\r\nA: " + b"x" * 20_000 + b"\r\n\r\nx\r\n--b0--",
        b"x" * 100_000,
        b"--b0\r\n\r\nx\r\n" * 1001 + b"--b0--",
        (b"--b0\r\nA: " + b"x" * 16_000 + b"\r\n\r\nx\r\n") * 66 + b"--b0--",
    ],
)
def test_what_is_not_multipart_is_refused(body):
    with pytest.raises(InvalidError) as caught:
        parse("multipart/form-data; boundary=b0", body, (), limit=1 << 20)
    assert caught.value.reason == "BODY_INVALID"


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/x; boundary="a\nb"']
)
def test_a_boundary_has_to_be_named(kind):
    with pytest.raises(InvalidError):
        parse(kind, b"--b0--", (), limit=100)
