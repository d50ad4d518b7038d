"""Parts are found where they lie, however the body arrives."""

from __future__ import annotations

import hashlib
from email.message import EmailMessage

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cases import cases

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.payloads.multipart import (
    MultipartScanner,
    MultipartSplitter,
    PartData,
    PartEnded,
    PartStarted,
    sanitize_file_name,
)
from flowhook.payloads.parsing import parse

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


FORM = "multipart/form-data; boundary=b"
MIXED = "multipart/mixed; boundary=b"


def part(content=b"", name="", filename=None, kind=""):
    header = f'Content-Disposition: form-data; name="{name}"' if name else "X-Empty: yes"
    header += "" if filename is None else f'; filename="{filename}"'
    header += f"\r\nContent-Type: {kind}" if kind else ""
    return b"--b\r\n" + header.encode() + b"\r\n\r\n" + content + b"\r\n"


def body(*parts):
    return b"".join(parts) + b"--b--\r\n"


def taken(content, kind=FORM, step=64 * 1024):
    """Return fields and attachments of a body that comes in pieces."""
    parts = MultipartSplitter(kind)
    for start in range(0, len(content), step):
        parts.feed(content[start : start + step])
    return parts.end()


def test_a_file_is_a_slice_with_its_hash_and_fields_are_an_object():
    picture = bytes(range(256)) * 100
    content = body(
        part(b"Ada", "who[name]"),
        part(picture, "file", "../a.png", "image/png"),
        part(b"[1]", "n", None, "application/json"),
    )
    form, (attachment,) = taken(content, step=100)
    assert orjson.loads(form) == {"who": {"name": "Ada"}, "n": [1]}
    assert content[attachment.offset : attachment.offset + attachment.size] == picture
    assert attachment[2:] == ("image/png", "a.png", "file", hashlib.sha256(picture).digest())


def test_parts_of_a_body_that_is_no_form_are_attachments():
    form, attachments = taken(body(part(b"text", "n"), part(b"more")), MIXED)
    assert form == b""
    assert [(each.name, each.field, each.size) for each in attachments] == [("n", "n", 4), ("part", "", 4)]


@given(
    contents=st.lists(
        st.tuples(
            st.binary(max_size=40).filter(lambda data: b"--b" not in data),
            st.sampled_from(["", "a", "a[]", "a[b]", "c"]),
            st.sampled_from([None, "f.txt"]),
            st.sampled_from(["", "text/plain", "application/json", "image/png", "text/plain; charset=nonsense"]),
        ),
        max_size=6,
    ),
    kind=st.sampled_from([FORM, MIXED]),
    step=st.integers(1, 50),
)
@settings(deadline=None)
def test_whatever_the_pieces_the_parts_are_those_of_the_body_in_memory(contents, kind, step):
    content = body(*(part(*each) for each in contents))
    form, attachments = taken(content, kind, step)
    whole = parse(kind, content, (), limit=limits.MAX_BODY_BYTES)
    assert (orjson.loads(form) if form else None) == whole.body
    assert [
        (each.name, each.type, content[each.offset : each.offset + each.size], each.field) for each in attachments
    ] == list(whole.attachments)


@pytest.mark.parametrize("large", [b"x" * limits.MAX_FORM_BYTES, b"\x01" * (limits.MAX_FORM_BYTES // 6)])
def test_fields_that_are_too_much_as_json_are_attachments(large):
    form, attachments = taken(body(part(b"small", "a"), part(large, "b"), part(b"last", "c")))
    assert orjson.loads(form) == {"a": "small", "c": "last"}
    assert len(form) <= limits.MAX_FORM_BYTES
    assert [(each.name, each.field, each.size) for each in attachments] == [("b", "b", len(large))]


def test_a_field_that_is_nested_too_deeply_to_be_written_is_an_attachment():
    form, attachments = taken(body(part(b"[" * 300 + b"]" * 300, "deep", None, "application/json")))
    assert (form, [each.name for each in attachments]) == (b"{}", ["deep"])


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"--b\r\n\r\nno end", FORM),
        (b"no boundary" * 10_000, FORM),
        (body(), "multipart/form-data"),
        (body(*(part(b"", "a", "f" * 200, "t" * 15_000) for _ in range(100))), FORM),
        (body(*(part(b"1", "a" + "[x]" * 33) for _ in range(1))), FORM),
    ],
)
def test_what_is_no_multipart_or_has_too_long_a_head_is_refused(content, kind):
    with pytest.raises(InvalidError) as raised:
        taken(content, kind)
    assert raised.value.reason == "BODY_INVALID"
