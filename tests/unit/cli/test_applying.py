"""What `up` remembers of the files that it applied."""

from __future__ import annotations

import pytest

from cli.applying import NAME, AppliedFile, read_applied_files, write_applied_files

FILE = AppliedFile.of(b"a", "hello", 3)


@pytest.mark.parametrize(
    ("content", "revisions", "superseded"),
    [
        (b"a", {"hello": 4}, True),
        (b"a", {"hello": 3}, False),
        (b"b", {"hello": 4}, False),  # the file was edited, too: it says what is wanted
        (b"a", {"other": 9}, False),  # the flow was deleted
        (b"a", {"hello": 1}, False),  # it was deleted and applied anew, or the database is another one
    ],
)
def test_a_file_is_superseded_when_its_flow_alone_was_changed(content, revisions, superseded):
    assert FILE.is_superseded(content, revisions) is superseded


def test_what_is_written_is_read(tmp_path):
    write_applied_files(tmp_path, {"/x/hello.yaml": FILE})
    assert read_applied_files(tmp_path) == {"/x/hello.yaml": FILE}


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"a": {}}', b'{"a": 1}'])
def test_a_file_that_is_missing_or_damaged_remembers_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / NAME).write_bytes(content)
    assert read_applied_files(tmp_path) == {}
