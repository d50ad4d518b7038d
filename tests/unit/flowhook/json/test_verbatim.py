"""JSON whose numbers stay as they were written."""

from __future__ import annotations

import pytest
from support.cases import cases

from flowhook.json import verbatim
from flowhook.json.verbatim import JsonNumber


@pytest.mark.parametrize(
    "text",
    [b'{"a":1.0,"b":[1e2,-0,0.10],"c":null,"d":"\xc3\xa4"}', b"[" + b"7" * 400 + b"]", b'"1.0"', b"1E400", b"true"],
)
def test_numbers_are_written_as_they_were_read(text):
    assert verbatim.dumps(verbatim.loads(text)) == text


def test_numbers_that_are_written_differently_are_different():
    assert verbatim.loads(b"1.0") != verbatim.loads(b"1")
    assert verbatim.loads(b"1.0") == JsonNumber("1.0")


@cases("text", [b"", b"{", b"NaN", b"[Infinity]", b"\xff", b'{"a":1,"a":2}', b"[" * 200_000 + b"]" * 200_000])
def test_what_has_no_single_reading_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        verbatim.loads(text)


@pytest.mark.parametrize("text", [b'"\\ud800"', b"[" * 400 + b"]" * 400])
def test_what_can_not_be_written_is_refused(text):
    value = verbatim.loads(text)
    with pytest.raises(ValueError, match="can't be written"):
        verbatim.dumps(value)
