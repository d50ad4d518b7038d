"""Multipart bodies that are streamed: the same fields and attachments as of those in memory, and where these lie."""

from __future__ import annotations

import hashlib

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.payloads import MultipartSplitter, parse

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
