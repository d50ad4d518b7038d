"""Attachments of events whose body is part of them."""

from __future__ import annotations

import hashlib

import orjson

from flowhook.model import Event
from flowhook.wire import convert
from operations.attachment_parts import list_attachments, read_attachment

FORM = (
    b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.bin"\r\n\r\n\x00\xff\r\n--x--\r\n'
)


def event(body, content_type):
    stored = Event("evt_01999999990000000000000000", "f", 0, None, "", "POST", "", "", content_type, (), body)
    return convert.event_to_bytes(stored)


def test_the_files_of_a_form_are_attachments():
    form = event(FORM, "multipart/form-data; boundary=x")
    (listed,) = map(orjson.loads, list_attachments(form))
    digest = hashlib.sha256(b"\x00\xff").hexdigest()
    assert listed["name"] == "a.bin"
    assert (listed["index"], listed["field"], listed["size"], listed["sha256"]) == (0, "f", 2, digest)
    assert list(read_attachment(form, b"0")) == [b"a.bin", b"\x00\xff"]
    assert list(read_attachment(form, b"1")) == []


def test_a_body_that_is_parsed_has_none():
    assert list(list_attachments(event(b"{}", "application/json"))) == []
