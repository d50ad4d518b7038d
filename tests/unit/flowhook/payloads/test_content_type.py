"""Parameters are read as senders of all ages write them, in a time that their length bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases
from support.cpu import cpu_seconds

from flowhook.payloads.content_type import parameters


@cases(
    ("value", "expected"),
    [
        ('form-data; name="a"; filename="b;c.txt"', {"name": "a", "filename": "b;c.txt"}),
        (r'x; filename="a\"b\\c.txt"', {"filename": r'a"b\c.txt'}),
        (r'x; filename="C:\dir\a.txt"', {"filename": r"C:\dir\a.txt"}),
        ("x; filename=e.txt; filename*=UTF-8'en'%C3%A9.txt", {"filename": "é.txt"}),
        ("x; filename=e.txt; filename*=utf-7''+2AA-", {"filename": "e.txt"}),
        ('x; filename*0=a; filename*1="b;c"; filename*2=d', {"filename": "ab;cd"}),
        ("x; filename*1*=%A9; filename*0*=utf-8''%C3", {"filename": "é"}),
        ("x; filename*0=a; filename*2=c", {}),
        ('a/b;Charset = utf-8 ;boundary="x y"', {"charset": "utf-8", "boundary": "x y"}),
        ("x; a=1; a=2", {"a": "1"}),
        ('x; n="without end; c=d', {"n": '"without end', "c": "d"}),
        ("x; ; =b; c", {}),
        ("x", {}),
    ],
)
def test_parameters_are_found(value, expected):
    assert parameters(value) == expected


@cases("piece", [";", '\\"', '; a*1="b', "=", ' "', ";b=", ';b="\\', "; a*1*=%"])
def test_time_is_linear(piece):
    # it takes milliseconds; a quadratic one takes a minute
    assert cpu_seconds(lambda: parameters("x; a=" + piece * 20_000), 2) < 2


@given(st.text(st.sampled_from(";=*\"\\ %'0a\n"), max_size=40))
def test_any_text_has_some(value):
    assert all(name and name == name.lower() for name in parameters("x;" + value))
